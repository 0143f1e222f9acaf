"""One handler a command: the rules that need more than one aggregate. The table at the foot is the ledger's contents.

A handler loads what the command is about, checks who may do it, and calls the aggregate's public method, which checks
the rest. It returns the aggregate that changed. It does no I/O but loading.
"""

from collections.abc import Callable, Mapping
from typing import Any

from domain import commands as c
from domain import purchase_commands as p
from domain import purchase_handlers as ph
from domain import store_commands as s
from domain.batch import Batch
from domain.book import Book
from domain.company import Company
from domain.desk import Desk, Handler
from domain.errors import AlreadyExists, NothingNew, NotYourCompany, SignatureMissing
from domain.guards import command_as, require_operator, require_own_company
from domain.ids import book_id, company_id, wallet_id
from domain.orders import Order
from domain.signature import Signature, require_live
from domain.store_message import StoreMessage
from domain.subscription import Subscription
from domain.subscription_history import about_this_line
from domain.trade import Trade
from domain.wallet import Wallet


def register_company(desk: Desk, order: Order) -> Company:
    """Admit a company."""
    command = command_as(c.RegisterCompany, order)
    require_operator(order)
    if desk.exists(company_id(command.code)):
        raise AlreadyExists(f"company {command.code} is registered already", company=command.code)
    return desk.add(Company.register(command.code, command.name))


def suspend_company(desk: Desk, order: Order) -> Company:
    """Stop a company from signing."""
    command = command_as(c.SuspendCompany, order)
    require_operator(order)
    company = desk.company(command.code)
    company.expect_version(order.expected_version)
    company.suspend(command.reason)
    return company


def resume_company(desk: Desk, order: Order) -> Company:
    """Let a company sign again."""
    command = command_as(c.ResumeCompany, order)
    require_operator(order)
    company = desk.company(command.code)
    company.expect_version(order.expected_version)
    company.resume(command.reason)
    return company


def open_wallet(desk: Desk, order: Order) -> Wallet:
    """Open the one wallet of a company's user."""
    command = command_as(c.OpenWallet, order)
    require_own_company(order, command.company)
    desk.company(command.company).require_active()
    if desk.exists(wallet_id(command.company, command.subject)):
        raise AlreadyExists("this user has a wallet already", wallet=wallet_id(command.company, command.subject))
    signature = _live(desk, order)
    return desk.add(Wallet.open(command.subject, command.company, command.address, command.custody, signature))


def rotate_key(desk: Desk, order: Order) -> Wallet:
    """Replace a wallet's key."""
    command = command_as(c.RotateKey, order)
    wallet = _own_wallet(desk, order, command.wallet)
    desk.company(wallet.company).require_active()
    signature = _live(desk, order)
    wallet.require_signer(wallet.company, signature)
    if order.new_signature is None:
        raise SignatureMissing("a new key signs its rotation, too", wallet=wallet.id)
    desk.claim(order)
    wallet.rotate(command.new, signature, order.new_signature)
    return wallet


def freeze_wallet(desk: Desk, order: Order) -> Wallet:
    """Stop a wallet from signing for the time being."""
    command = command_as(c.FreezeWallet, order)
    wallet = _own_wallet(desk, order, command.wallet)
    wallet.freeze(command.reason)
    return wallet


def unfreeze_wallet(desk: Desk, order: Order) -> Wallet:
    """Let a frozen wallet sign again."""
    command = command_as(c.UnfreezeWallet, order)
    wallet = _own_wallet(desk, order, command.wallet)
    wallet.unfreeze(command.reason)
    return wallet


def close_wallet(desk: Desk, order: Order) -> Wallet:
    """Stop a wallet from signing for good."""
    command = command_as(c.CloseWallet, order)
    wallet = _own_wallet(desk, order, command.wallet)
    wallet.close(command.reason)
    return wallet


def record_trade(desk: Desk, order: Order) -> Trade:
    """Record a trade of the acting company."""
    command = command_as(c.RecordTrade, order)
    company = order.actor.company
    terms = order.terms
    if terms is None:
        raise SignatureMissing("the trade has not been signed", company=company)
    if company not in {command.seller, command.buyer}:
        raise NotYourCompany(
            f"{company or 'the operator'} records its own trades only", company=company, seller=command.seller
        )
    desk.company(command.seller).require_active()
    desk.company(command.buyer).require_active()
    if desk.exists(order.trade_id):
        raise AlreadyExists(f"trade {order.trade_id} exists already", trade=order.trade_id)
    return desk.add(Trade.record(order.trade_id, terms, order.digest, _signed(desk, order)))


def follow_up(act: Callable[[Trade, str, Any, Signature], None]) -> Handler:
    """A handler for a command about a recorded trade: `act` calls the trade's public method."""

    def handler(desk: Desk, order: Order) -> Trade:
        command = order.command
        if not isinstance(command, c.TradeFollowUp):
            raise TypeError(f"{type(command).__name__} is not about a recorded trade")
        trade = desk.trade(command.trade)
        trade.require_party(order.actor.company)
        trade.expect_version(order.expected_version)
        trade.require_digest(command.digest)
        desk.company(order.actor.company).require_active()
        signature = _signed(desk, order)
        trade.require_digest(order.digest)  # what was signed, should other terms of that id have come between
        act(trade, order.actor.company, command, signature)
        return trade

    return handler


def sign_batch(desk: Desk, order: Order) -> Batch:
    """Put a batch's signature before the entries that it signs."""
    command = command_as(c.SignBatch, order)
    require_own_company(order, command.company)
    desk.company(command.company).require_active()
    signature = _signed(desk, order)
    if desk.exists(command.batch):
        raise AlreadyExists(f"batch {command.batch} exists already", batch=command.batch)
    return desk.add(Batch.sign(command.batch, command.company, command.root, command.count, signature))


def open_book(desk: Desk, order: Order) -> Book:
    """Begin the log."""
    command = command_as(c.OpenBook, order)
    require_operator(order)
    origin = command.log_key.partition("+")[0]
    if desk.exists(book_id(origin)):
        raise AlreadyExists("the book is open already", origin=origin)
    return desk.add(
        Book.open(
            origin,
            chain_id=command.chain_id,
            contract=command.contract,
            log_key=command.log_key,
            promise_key=command.promise_key,
            previous=command.previous,
        )
    )


def receive_notification(desk: Desk, order: Order) -> StoreMessage:
    """Record that a message of a store has come; other bytes under a known id are recorded beside it."""
    command = command_as(s.ReceiveNotification, order)
    require_operator(order)
    if not desk.exists(command.message):
        return desk.add(
            StoreMessage.receive(
                command.message, command.store, command.environment, command.verdict, command.payload, command.size
            )
        )
    message = desk.store_message(command.message)
    if not message.contradict(command.verdict, command.payload, command.size):
        raise NothingNew("this message has come before", notification=command.message)
    return message


def judge_notification(desk: Desk, order: Order) -> StoreMessage:
    """Record a verdict that could not be given before."""
    command = command_as(s.JudgeNotification, order)
    require_operator(order)
    message = desk.store_message(command.message)
    if not message.judge(command.verdict):
        raise NothingNew("this message is judged so already", notification=command.message)
    return message


def observe_subscription(desk: Desk, order: Order) -> Subscription:
    """Record what is new in a message about a subscription."""
    command = command_as(s.ObserveSubscription, order)
    require_operator(order)
    said = command.said
    if not about_this_line(said) or said.says_nothing:
        raise NothingNew("the message says nothing about a subscription", kind=said.kind)
    if desk.exists(command.subscription):
        subscription = desk.subscription(command.subscription)
    else:
        subscription = desk.add(Subscription.open(said.store, said.environment, said.line or ""))
    if not subscription.observe(said, command.payload):
        raise NothingNew("the message says nothing that is not known", subscription=command.subscription)
    return subscription


def supersede_subscription(desk: Desk, order: Order) -> Subscription:
    """Record that another subscription has taken this one's place."""
    command = command_as(s.SupersedeSubscription, order)
    require_operator(order)
    subscription = desk.subscription(command.subscription)
    if not subscription.supersede(command.by):
        raise NothingNew("it is superseded by that one already", subscription=command.subscription)
    return subscription


# -- who may ---------------------------------------------------------------------------------------------------------


def _own_wallet(desk: Desk, order: Order, wallet: str) -> Wallet:
    found = desk.wallet(wallet)
    require_own_company(order, found.company)
    found.expect_version(order.expected_version)
    return found


def _live(desk: Desk, order: Order) -> Signature:
    """The order's signature of its own, still in time."""
    signature = order.signature
    if signature is None or not isinstance(signature.deadline, int):
        raise SignatureMissing("the command needs a signature", command=type(order.command).__name__)
    require_live(signature.deadline, desk.now_seconds)
    return signature


def _signed(desk: Desk, order: Order) -> Signature:
    """The order's signature by a wallet of the acting company: valid key, in time, used once."""
    signature = order.signature
    if signature is None:
        raise SignatureMissing("the command needs a signature", command=type(order.command).__name__)
    desk.wallet(signature.wallet).require_signer(order.actor.company, signature)
    if signature.own:
        _live(desk, order)
    desk.claim(order)
    return signature


HANDLERS: Mapping[type[c.Command], Handler] = {
    c.OpenBook: open_book,
    c.RegisterCompany: register_company,
    c.SuspendCompany: suspend_company,
    c.ResumeCompany: resume_company,
    c.OpenWallet: open_wallet,
    c.RotateKey: rotate_key,
    c.FreezeWallet: freeze_wallet,
    c.UnfreezeWallet: unfreeze_wallet,
    c.CloseWallet: close_wallet,
    c.SignBatch: sign_batch,
    c.RecordTrade: record_trade,
    c.ConfirmTrade: follow_up(lambda trade, by, _, sig: trade.confirm(by, sig)),
    c.DisputeTrade: follow_up(lambda trade, by, cmd, sig: trade.dispute(by, cmd.reason, sig)),
    c.WithdrawDispute: follow_up(lambda trade, by, cmd, sig: trade.withdraw_dispute(by, cmd.reason, sig)),
    c.ProposeSettlement: follow_up(
        lambda trade, by, cmd, sig: trade.propose_settlement(by, cmd.amount, cmd.settled_on.isoformat(), sig)
    ),
    c.SettleTrade: follow_up(lambda trade, by, cmd, sig: trade.settle(by, cmd.amount, cmd.settled_on.isoformat(), sig)),
    c.ProposeReversal: follow_up(lambda trade, by, cmd, sig: trade.propose_reversal(by, cmd.reason, sig)),
    c.ReverseTrade: follow_up(lambda trade, by, cmd, sig: trade.reverse(by, cmd.reason, sig)),
    c.AddNote: follow_up(
        lambda trade, by, cmd, sig: trade.add_note(by, cmd.note, tuple(a.event_form() for a in cmd.attachments), sig)
    ),
    s.ReceiveNotification: receive_notification,
    s.JudgeNotification: judge_notification,
    s.ObserveSubscription: observe_subscription,
    s.SupersedeSubscription: supersede_subscription,
    p.ClaimIdentity: ph.claim_identity,
    p.ProveIdentity: ph.prove_identity,
    p.TransferIdentity: ph.transfer_identity,
    p.ReleaseIdentity: ph.release_identity,
    p.AcceptPurchase: ph.accept_purchase,
    p.ReportStep: ph.report_step,
    p.RequestContract: ph.request_contract,
    p.EndPurchase: ph.end_purchase,
    p.DecidePurchase: ph.decide_purchase,
    p.AskErasure: ph.ask_erasure,
    p.OpenCase: ph.open_case,
    p.ProposeCaseAction: ph.propose_case_action,
    p.ApproveCaseAction: ph.approve_case_action,
    p.WithdrawCaseAction: ph.withdraw_case_action,
    p.CloseCase: ph.close_case,
}
