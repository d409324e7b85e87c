"""Takes de-identification markers out of prompts without changing a clinical fact. No torch in here."""
