"""What is asked of a recogniser in ONNX Runtime in more than one file of tests."""

import numpy as np
import torch
from onnxruntime import OrtValue


def logits_of(model, features, tokens, steps):
    """Of tokens that are given in so many at a time."""
    cross = model.encode(features)
    state = dict(zip([f"cross_{kind}_0" for kind in ("key", "value")], cross, strict=True))
    batch, heads, _, width = cross[0].shape()
    past = [OrtValue.ortvalue_from_numpy(np.zeros((batch, heads, 0, width), dtype=np.float32))] * 2
    found = []
    for new in tokens.split(steps, dim=1):
        logits, *past = model.decode(new, past, state)
        found.append(torch.from_numpy(logits.numpy().copy()))
    return torch.cat(found, 1)


def generated(model, features):
    with torch.no_grad():
        return model.generate(input_features=features, max_new_tokens=12, language="en", task="transcribe")
