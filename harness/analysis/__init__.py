"""Analysis of a configuration: its layers alone and together, beside full precision.

Everything here is measured on teacher-forced speech, full precision beside the quantized model.
"""
