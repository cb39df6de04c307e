"""A backend (`rowwise`) and a data set (`tones`) that asrquant finds by their entry points."""
