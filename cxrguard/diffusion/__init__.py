"""Loading, the objective, the LightningModule, sampling and export."""
