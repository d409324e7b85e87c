"""Lightning callbacks: when probes run and what is logged; no formula lives here."""
