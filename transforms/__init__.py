"""The steps of the job as Beam PTransforms, one module each, in the words of the flow."""
