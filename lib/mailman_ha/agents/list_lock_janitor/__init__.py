"""The agent list-lock-janitor: releases the locks of the dead and mends their half-done saves."""
