"""The YAML files that ``--config NAME`` finds; installed as ``activeselect.configs``."""
