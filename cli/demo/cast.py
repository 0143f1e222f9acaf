"""Who plays in the demo: six companies, a clerk each, and the table of their trades."""

import csv
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).resolve().parents[2] / "demo" / "trades.csv"
COMPANIES: Final = {
    "aozora-foods": "Aozora Foods K.K.",
    "berger-maschinen": "Berger Maschinen GmbH",
    "cascade-paper": "Cascade Paper Inc.",
    "delta-logistics": "Delta Logistics Ltd.",
    "emilia-ceramics": "Emilia Ceramics S.r.l.",
    "fuji-packaging": "Fuji Packaging K.K.",
}


def clerk_of(company: str) -> str:
    """The user who acts for a company in the demo."""
    return f"clerk@{company}.example"


def table_references() -> set[tuple[str, str]]:
    """Seller and reference of every trade in the table."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        return {(row["Seller"], row["Invoice No"]) for row in csv.DictReader(handle)}


def sellers() -> list[str]:
    """The companies that sell something in the table, in the order of the cast."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        found = {row["Seller"] for row in csv.DictReader(handle)}
    return [company for company in COMPANIES if company in found]
