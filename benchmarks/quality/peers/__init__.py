"""Other packages and other methods, as they are meant to be used."""
