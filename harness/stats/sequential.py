"""Sequential test of a cell against its baseline: whether it is certainly worse by more than a limit, at any moment.

Speakers are drawn without replacement from those of the split. The test may be looked at after each of them: over all
moments together, a cell whose whole difference is within the limit is called worse in at most `ALPHA` of all orders.

Source: Waudby-Smith & Ramdas 2020, "Confidence sequences for sampling without replacement", NeurIPS; with the capital
of bets of Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86(1), sec. 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.resampling import Values

ALPHA = 0.05
FEWEST_SPEAKERS = 8
"""With fewer in the whole split nothing is called worse."""
_BETS = (0.25, 0.5, 0.75, 0.95)
"""Shares of the largest bet; the capital is their mean, so that none need be chosen."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Speakers in the order of drawing, with what is known of the baseline before the first is drawn.

    Attributes:
        errors, words: of the baseline by speaker, in the order in which they are drawn, (speakers,).
        limit: of the difference in WER, a fraction.
    """

    errors: Values
    words: Values
    limit: float

    def is_worse(self, errors: Values) -> bool:
        """Whether a cell is certainly worse by more than the limit.

        Args:
            errors: of the cell, of the first speakers in the order of drawing, (at most speakers,).
        """
        return len(self.words) >= FEWEST_SPEAKERS and bool((self.capital(errors) >= 1 / ALPHA).any())

    def capital(self, errors: Values) -> Values:
        """What a gambler has after each speaker who bets that the cell is worse than the limit allows, (speakers,).

        The loss of a speaker is x = (errors of the cell, at most all words, - errors of the baseline - limit * words)
        over the words of the speaker with most. If the whole sum of x is at most 0, the next x is on average at most
        m = -(sum of those before) / (speakers left), so that the product of 1 + bet * (x - m) is a supermartingale,
        as long as it cannot become negative: bet <= 1 / (m - least possible x). By Ville's inequality it reaches
        1 / alpha at any moment with a probability of at most alpha.
        """
        most = self.words.max()
        least = -(self.errors + self.limit * self.words) / most
        losses = np.minimum(errors, self.words[: len(errors)]) / most + least[: len(errors)]
        capital, found = np.ones(len(_BETS)), []
        for drawn, loss in enumerate(losses):
            mean = -losses[:drawn].sum() / (len(self.words) - drawn)
            room = mean - least[drawn:].min()
            if room <= 0:  # whatever is left, the sum cannot come down to 0
                capital = np.full_like(capital, np.inf)
            capital = capital * (1 + np.array(_BETS) / room * (loss - mean)) if room > 0 else capital
            found.append(capital.mean())
        return np.array(found)
