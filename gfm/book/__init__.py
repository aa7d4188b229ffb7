"""The book: the register of elements, the verdicts on claims, and the interface that notebooks use."""

from gfm.book.element import Element, below
from gfm.book.register import Claim, ElementEntry, Register
from gfm.book.verdicts import Verdict

__all__ = ["Claim", "Element", "ElementEntry", "Register", "Verdict", "below"]
