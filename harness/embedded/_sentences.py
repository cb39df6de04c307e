"""The sentences of the embedded benchmark: a small context-free grammar of our own.

Open slots (names, things, places, numbers) are filled independently, so that a language model
alone cannot guess what was said and word errors measure the acoustics. Every sentence is drawn
from a seeded generator; test sentences are drawn first and excluded from all training text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator

_WORDS = {
    "name": "anna ben carol david emma frank grace henry irene jack karen louis maria nathan olivia peter "
    "rachel simon teresa victor wendy oscar julia martin helen robert susan thomas laura edward alice george",
    "surname": "baker carter dixon foster graham harris jackson keller lawson mason nelson parker quinn "
    "sanders turner walker young bennett cooper gordon",
    "city": "london paris boston chicago dublin denver madrid berlin vienna geneva oslo cairo lisbon seattle "
    "dallas houston phoenix atlanta toronto sydney tokyo delhi glasgow bristol oxford",
    "street": "maple cedar pine church mill park river hill lake station market bridge garden orchard castle",
    "way": "street road avenue lane drive square",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "month": "january february march april may june july august september october november december",
    "one": "one two three four five six seven eight nine",
    "teen": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "ty": "twenty thirty forty fifty sixty seventy eighty ninety",
    "nth": "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    "color": "red blue green yellow black white brown purple orange silver golden",
    "adj": "old young small large heavy dark bright cold warm dry clean dirty quiet loud strong weak narrow "
    "wide empty full broken strange gentle clever lazy hungry angry happy proud lonely famous foreign wooden "
    "rusty smooth sharp deep frozen modern honest careful patient cheap fresh bitter soft round crooked hidden "
    "secret distant brave curious faithful plain",
    "who": "teacher doctor farmer soldier sailor captain painter singer writer lawyer driver pilot nurse "
    "waiter clerk judge thief guard king queen prince merchant hunter gardener carpenter neighbor stranger "
    "student brother sister mother father uncle cousin child woman boy girl widow servant engineer officer",
    "animal": "dog cat horse cow sheep goat pig chicken duck goose rabbit fox wolf bear lion tiger elephant "
    "monkey mouse snake frog eagle owl sparrow whale shark donkey camel deer",
    "thing": "table chair lamp window door mirror clock candle basket bottle bucket blanket pillow carpet "
    "curtain drawer hammer ladder shovel needle button jacket coat shirt dress boot hat glove scarf ring "
    "wallet umbrella camera guitar piano violin drum letter book newspaper map picture pencil knife fork spoon "
    "plate cup kettle oven sword shield arrow flag bell wheel engine wagon bicycle boat anchor rope lock key "
    "box barrel stone fence statue",
    "food": "bread butter cheese milk sugar pepper flour rice pasta soup salad beef bacon fish apple banana "
    "cherry lemon melon grape carrot potato tomato onion garlic honey cake chocolate coffee water wine",
    "place": "kitchen bedroom garden garage cellar attic office library museum theater hospital school church "
    "market bakery restaurant hotel airport station harbor bridge tower castle village forest mountain valley "
    "river island beach desert meadow farm factory prison tunnel cottage",
    "did": "found carried lost broke bought sold painted moved opened closed cleaned washed dropped lifted "
    "pulled pushed stole borrowed returned kept wanted needed noticed admired measured repaired burned buried "
    "covered gathered held touched watched described received",
    "acted": "slept waited laughed cried shouted whispered listened walked danced worked rested stood smiled "
    "trembled vanished arrived stayed wandered stumbled paused",
    "said": "said believed thought knew hoped feared heard explained promised remembered",
    "how": "slowly quickly quietly suddenly carefully gently loudly softly proudly bravely again alone "
    "together outside yesterday today tonight early late finally",
    "weather": "sunny cloudy rainy windy foggy stormy snowy cold warm mild",
    "idea": "truth love fear hope courage wisdom patience anger silence freedom justice beauty sorrow joy "
    "duty honor memory",
    "device": "lights heating fan television radio alarm oven camera heater printer",
    "sport": "football tennis baseball hockey chess golf basketball",
    "subject": "history science music physics chemistry latin french german spanish russian algebra",
    "he": "i you he she we they",
    "him": "me you him her us them",
    "his": "my your his her our their",
    "unit": "miles meters feet inches pounds gallons minutes hours days weeks months years degrees",
    "money": "dollars euros pounds cents",
    "vehicle": "train bus plane ferry taxi boat",
    "oh": "one two three four five six seven eight nine zero",
}

_RULES = {
    "number": "{one}|{teen}|{ty}|{ty} {one}|{ty} {one}|{one} hundred|{one} hundred and {ty}",
    "digits": "{oh} {oh} {oh}|{oh} {oh} {oh} {oh}|{oh} {oh} {oh} {oh} {oh}",
    "time": "{one} o'clock|half past {one}|a quarter to {teen}|{one} thirty|{one} {ty} {one}|{one} in the morning",
    "date": "the {nth} of {month}|{month} the {nth}|{day} {month} the {nth}",
    "the": "the|the|a|that|this|{his}",
    "person": "{name}|{name}|{name} {surname}|doctor {surname}|{the} {who}|{the} {who}|{the} {adj} {who}",
    "noun": "{thing}|{thing}|{animal}|{food}|{adj} {thing}|{color} {thing}|{adj} {animal}",
    "object": "{the} {noun}",
    "where": "in the {place}|near the {place}|behind {the} {place}|outside the {place}|across from the {place}"
    "|in front of the {place}|next to {the} {place}|in the {adj} {place}",
    "why": "because of the rain|because of the snow|without a word|for the first time|before the war"
    "|after the storm|with great care|in the middle of the night|at the end of the day|once more|at last"
    "|in the evening|all day long|by accident|in a hurry",
    "sentence": "{person} {did} {object} {where}|{person} {did} {object} {where}|{person} {did} {object} {why}"
    "|{person} {did} {object} {why}|{how} {person} {acted} {where}|{person} {acted} {how} {where}"
    "|{person} {said} that {person} {acted} {how}|{person} {said} that the {noun} was {adj}"
    "|the {adj} {animal} and the {adj} {animal} {acted} {where}|{he} {did} {object} and {did} {object}"
    "|the {adj} {who} gave {him} {object}|there was a {noun} {where}|{idea} is more precious than {idea}"
    "|{his} {who} spoke of {idea} and {idea} {why}|when {person} {acted} the {who} {did} {object}"
    "|{object} and {object} were stolen {why}|the {vehicle} to {city} leaves at {time}"
    "|i need a ticket from {city} to {city} on {day}|{person} lives at {number} {street} {way} in {city}"
    "|call {name} after {time} on {day}|the meeting with {person} is on {date}|my number is {digits}"
    "|the code for the {place} is {digits}|{object} costs {number} {money}"
    "|it is {number} {unit} from {city} to {city}|{person} was born on {date}"
    "|{person} paid {number} {money} for {object}|on {day} it will be {weather} and {weather} in {city}"
    "|the temperature in {city} is {number} degrees|turn off the {device} in the {place}"
    "|turn on the {device} in the {place}|add {food} and {food} to the shopping list"
    "|set a timer for {number} minutes|please bring {him} {object} and {object}"
    "|could you move {object} {where}|do you want {food} or {food} with your {food}"
    "|{person} plays {sport} and studies {subject} in {city}|{he} should have asked {person} about {object}"
    "|where did {person} hide {object}|why is {object} so {adj} today|how many ships are there {where}",
}
_ALTERNATIVES = {k: v.split() for k, v in _WORDS.items()} | {k: v.split("|") for k, v in _RULES.items()}
_SLOT = re.compile(r"\{(\w+)\}")


def _expand(symbol: str, rng: random.Random) -> str:
    return _SLOT.sub(lambda m: _expand(m[1], rng), rng.choice(_ALTERNATIVES[symbol]))


def sentences(seed: int, exclude: Collection[str] = ()) -> Iterator[str]:
    """Yield distinct lower-case sentences of 3-12 words and at most 66 characters, without end.

    Args:
        seed: fixes the whole sequence.
        exclude: sentences that are never yielded.
    """
    rng = random.Random(seed)
    seen = set(exclude)
    while True:
        sentence = re.sub(r"\ba (?=[aeiou])", "an ", _expand("sentence", rng))
        if 3 <= len(sentence.split()) <= 12 and len(sentence) <= 66 and sentence not in seen:
            seen.add(sentence)
            yield sentence


def fragment(sentence: str, rng: random.Random) -> str:
    """One to four consecutive words of `sentence`: the first lessons of the curriculum."""
    words = sentence.split()
    length = min(len(words), rng.choices([1, 2, 3, 4], [0.25, 0.35, 0.25, 0.15])[0])
    start = rng.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])
