"""What these tests send is held against the rules of the protocol."""

from tests._checked import protocol_is_kept

__all__ = ["protocol_is_kept"]
