"""Built-in selection strategies, one file each; installed as ``activeselect.strategies``."""

if __name__ != "activeselect.strategies":
    raise ImportError(
        f"The folder strategies/ is the package activeselect.strategies; it was imported as "
        f"'{__name__}'. Use `import activeselect.strategies`."
    )
