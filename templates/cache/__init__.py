"""The kernel cache: finished variants on disk, addressed by what they were made of."""

from templates.cache.store import CacheSize, KernelCache

__all__ = ["CacheSize", "KernelCache"]
