"""The paper: what its generated parts are made of, and the checks that its text must pass."""
