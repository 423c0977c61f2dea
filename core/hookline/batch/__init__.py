"""What travels from the scheduler to the model: ForwardMode, ModelWorkerBatch, ForwardBatch."""
