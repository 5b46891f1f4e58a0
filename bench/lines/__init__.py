"""The lines of the table, a module each: `async def measure(ground) -> Result`."""
