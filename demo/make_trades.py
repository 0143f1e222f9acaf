"""Writes demo/trades.csv: a year of trades between six companies, from a fixed seed.

python demo/make_trades.py > demo/trades.csv
"""

import csv
import datetime as dt
import random
import sys

COMPANIES = {
    "aozora-foods": ("matcha, ceremonial grade", "roasted sencha", "yuzu concentrate", "rice bran oil"),
    "berger-maschinen": ("conveyor module", "servo drive", "spare blades, set of 12", "commissioning, per day"),
    "cascade-paper": ("kraft liner, 200 g", "folding boxboard", "recycled pulp, bale", "label stock"),
    "delta-logistics": ("sea freight, 40 ft", "cold storage, per pallet", "customs clearance", "road haulage"),
    "emilia-ceramics": ("tea bowl, hand glazed", "tile, 20 x 20 cm", "kiln shelf", "teapot, cast iron look"),
    "fuji-packaging": ("pouch with zip, 250 g", "corrugated box, B flute", "shrink film, roll", "tin, 100 g"),
}
PRICES = {"JPY": (800, 1_800_000), "USD": (12.5, 48_000), "EUR": (9.9, 42_000)}
TRADES = 420
SHARE_OF_YEN = 0.7
PAIRS_WITH_JPY = {"aozora-foods", "fuji-packaging"}


def main() -> None:
    """Write the table to standard output."""
    chance = random.Random(20260401)  # noqa: S311 a reproducible table, not a secret
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["Invoice No", "Seller", "Buyer", "Amount", "Currency", "Invoice Date", "Due Date", "Description"])
    numbers = dict.fromkeys(COMPANIES, 0)
    day = dt.date(2025, 10, 1)
    for _ in range(TRADES):
        day += dt.timedelta(days=chance.choice((0, 0, 1, 1, 1, 2)))
        seller, buyer = chance.sample(list(COMPANIES), 2)
        numbers[seller] += 1
        initials = "".join(part[0] for part in seller.split("-")).upper()
        in_yen = bool({seller, buyer} & PAIRS_WITH_JPY) and chance.random() < SHARE_OF_YEN
        currency = "JPY" if in_yen else chance.choice(("USD", "EUR"))
        low, high = PRICES[currency]
        amount = low + (high - low) * chance.random() ** 3
        text = f"{amount:.0f}" if currency == "JPY" else f"{amount:,.2f}"
        due = day + dt.timedelta(days=chance.choice((14, 30, 30, 60)))
        item = f"{chance.choice(COMPANIES[seller])}, {chance.randint(1, 90)} units"
        writer.writerow([f"{initials}-{day.year}-{numbers[seller]:04d}", seller, buyer, text, currency, day, due, item])


if __name__ == "__main__":
    main()
