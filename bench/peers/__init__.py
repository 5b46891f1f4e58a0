"""What one would write today: programs of .venv-bench that import none of ours."""
