"""Programs that run in .venv-bench: what one would write today. They import none of ours."""
