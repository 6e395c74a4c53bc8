"""Lending desk of a small tool library.

Members borrow tools for a number of days. The desk decides who may borrow,
when a tool is due back, and what is owed when it comes late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta


class LoanRefused(Exception):
    """Raised when a member may not take a tool; the text says why."""


@dataclass(frozen=True)
class Tool:
    """One physical object on the shelf.

    ``hazard`` tools (chainsaws, angle grinders) need a member who has been
    through the safety evening.
    """

    tag: str
    name: str
    hazard: bool = False
    value: int = 20


@dataclass
class Member:
    """A person with a card."""

    name: str
    joined: date
    trained: bool = False
    owed_pence: int = 0


@dataclass
class Loan:
    """A tool in somebody's hands."""

    tool: Tool
    member: Member
    taken: date
    due: date
    renewals: int = 0


@dataclass
class Calendar:
    """Opening days. The shop is shut on Mondays and on listed holidays."""

    holidays: set[date] = field(default_factory=set)

    def is_open(self, day: date) -> bool:
        return day.weekday() != 0 and day not in self.holidays

    def next_open(self, day: date) -> date:
        """Roll forward to a day on which the doors are open.

        Nobody should have to pay because the shop was closed when the tool
        fell due, so every due date passes through here.
        """
        while not self.is_open(day):
            day += timedelta(days=1)
        return day


class LendingDesk:
    """Applies the house rules to loans."""

    PERIOD = timedelta(days=7)
    MAX_OUT = 4
    MAX_RENEWALS = 2
    DEBT_LIMIT_PENCE = 500
    FINE_PER_DAY_PENCE = 30

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.loans: dict[str, Loan] = {}
        self.waiting: dict[str, list[Member]] = {}

    def lend(self, tool: Tool, member: Member, today: date) -> Loan:
        """Hand ``tool`` to ``member`` or raise LoanRefused."""
        if tool.tag in self.loans:
            raise LoanRefused(f"{tool.name} is out already")
        if tool.hazard and not member.trained:
            raise LoanRefused("safety evening not attended")
        if member.owed_pence > self.DEBT_LIMIT_PENCE:
            raise LoanRefused("too much owing")
        held = [loan for loan in self.loans.values() if loan.member is member]
        if len(held) >= self.MAX_OUT:
            raise LoanRefused("four tools out already")
        due = self.calendar.next_open(today + self.PERIOD)
        loan = Loan(tool, member, today, due)
        self.loans[tool.tag] = loan
        return loan

    def renew(self, tag: str) -> date:
        """Give the borrower another week, unless someone else is queueing."""
        loan = self.loans[tag]
        if self.waiting.get(tag):
            raise LoanRefused("another member is waiting for it")
        if loan.renewals >= self.MAX_RENEWALS:
            raise LoanRefused("renewed twice already")
        loan.renewals += 1
        loan.due = self.calendar.next_open(loan.due + self.PERIOD)
        return loan.due

    def take_back(self, tag: str, today: date) -> int:
        """Receive a tool and return the fine in pence.

        The fine never exceeds the replacement value of the tool: a forgotten
        two-pound trowel must not cost its borrower forty.
        """
        loan = self.loans.pop(tag)
        late = max(0, (today - loan.due).days)
        ceiling = loan.tool.value * 100
        fine = min(late * self.FINE_PER_DAY_PENCE, ceiling)
        loan.member.owed_pence += fine
        return fine

    def overdue(self, today: date) -> list[Loan]:
        """Loans past their date, the oldest first, for the Friday calls."""
        late = [loan for loan in self.loans.values() if loan.due < today]
        return sorted(late, key=lambda loan: loan.due)
