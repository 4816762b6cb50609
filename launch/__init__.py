"""The ``segue`` command: quickstart, local launch, and the doors to the other rooms."""
