"""`make bench`: what Supacal does, side by side with what one would use instead."""
