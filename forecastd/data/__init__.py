"""History on disk: open, check, prepare into a store, split. Never imports torch."""

import os

# Read before pyarrow is loaded. Its other allocators keep most of what rows once took.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
