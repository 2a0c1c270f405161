"""The sheet: what a scientist asks of a crystal."""
