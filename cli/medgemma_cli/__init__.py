"""The one command ``medgemma-explainer``. Client and worker are imported when they are needed."""
