"""Why a configuration loses: what its layers look like, what each does alone, and where the damage adds up.

Everything here is measured on teacher-forced speech, full precision beside the quantized model.
"""
