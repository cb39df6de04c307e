"""Tables, figures and the page of a run, made from stored results; nothing is run here."""
