"""The handlers of commands about purchases, bindings and cases (`handlers` holds the table of all).

None of them is for clients: the ledger's own parts ask, as the operator, and of cases the operator's people.
"""

from domain import purchase_commands as p
from domain.case import Case
from domain.desk import Desk
from domain.erasure import Erasure
from domain.errors import NothingNew
from domain.guards import command_as, require_operator, require_person
from domain.orders import Order
from domain.purchase import PurchaseSaga
from domain.store_identity import StoreIdentity


def claim_identity(desk: Desk, order: Order) -> StoreIdentity:
    """Bind a line to the first user who claims it; record a conflict for the others."""
    command = command_as(p.ClaimIdentity, order)
    require_operator(order)
    identity = _identity(desk, command)
    if not identity.claim(command.subscription, command.user):
        raise NothingNew("this claim is known", identity=identity.id)
    return identity


def prove_identity(desk: Desk, order: Order) -> StoreIdentity:
    """Record that the store names the user; a conflict where it names another one."""
    command = command_as(p.ProveIdentity, order)
    require_operator(order)
    identity = _identity(desk, command)
    if not identity.prove(command.subscription, command.user):
        raise NothingNew("this proof is known", identity=identity.id)
    return identity


def transfer_identity(desk: Desk, order: Order) -> StoreIdentity:
    """Give a line to another user."""
    command = command_as(p.TransferIdentity, order)
    require_operator(order)
    identity = desk.identity(command.identity)
    identity.expect_version(order.expected_version)
    if not identity.transfer(command.before, command.after, command.reason):
        raise NothingNew("the line is that user's already", identity=identity.id)
    return identity


def release_identity(desk: Desk, order: Order) -> StoreIdentity:
    """Take a line from its user."""
    command = command_as(p.ReleaseIdentity, order)
    require_operator(order)
    identity = desk.identity(command.identity)
    if not identity.release(command.user, command.reason):
        raise NothingNew("the line is not that user's", identity=identity.id)
    return identity


def accept_purchase(desk: Desk, order: Order) -> PurchaseSaga:
    """Begin a purchase, join it, or begin it again."""
    command = command_as(p.AcceptPurchase, order)
    require_operator(order)
    if not desk.exists(command.purchase):
        return desk.add(PurchaseSaga.accept(command.subscription, command.store, command.environment, command.request))
    purchase = desk.purchase(command.purchase)
    if not purchase.join(command.request):
        raise NothingNew("this purchase is known", purchase=purchase.id)
    return purchase


def report_step(desk: Desk, order: Order) -> PurchaseSaga:
    """Record what has come of the step that is to be done."""
    command = command_as(p.ReportStep, order)
    require_operator(order)
    purchase = desk.purchase(command.purchase)
    if not purchase.report(command.round, command.step, command.outcome, command.detail, command.contract):
        raise NothingNew("that is not the step to be done", purchase=purchase.id, state=purchase.state)
    return purchase


def request_contract(desk: Desk, order: Order) -> PurchaseSaga:
    """Let one worker post an attempt at the billing system."""
    command = command_as(p.RequestContract, order)
    require_operator(order)
    purchase = desk.purchase(command.purchase)
    if not purchase.request_contract(command.round, command.attempt, asked=command.asked):
        raise NothingNew("that attempt is not the next one", purchase=purchase.id, attempt=purchase.attempt)
    return purchase


def end_purchase(desk: Desk, order: Order) -> PurchaseSaga:
    """Record that the line is over at its store."""
    command = command_as(p.EndPurchase, order)
    require_operator(order)
    purchase = desk.purchase(command.purchase)
    if not purchase.end(command.reason):
        raise NothingNew("that the line is over is known", purchase=purchase.id, state=purchase.state)
    return purchase


def decide_purchase(desk: Desk, order: Order) -> PurchaseSaga:
    """Do to a parked purchase what two persons have decided."""
    command = command_as(p.DecidePurchase, order)
    require_operator(order)
    purchase = desk.purchase(command.purchase)
    desk.case(command.case).require_approved(command.action, command.purchase)
    purchase.decide(command.action, command.reason)
    return purchase


def ask_erasure(desk: Desk, order: Order) -> Erasure:
    """Record that a user is to be forgotten."""
    command = command_as(p.AskErasure, order)
    require_operator(order)
    erasure = desk.erasure(command.user)
    if erasure is None:
        erasure = desk.add(Erasure.of(command.user))
    if not erasure.ask(command.user, command.owners, command.reason):
        raise NothingNew("this was asked for before", user=command.user)
    return erasure


def open_case(desk: Desk, order: Order) -> Case:
    """Put something before people."""
    command = command_as(p.OpenCase, order)
    require_operator(order)
    if desk.exists(command.case):
        raise NothingNew("this case is known", case=command.case)
    return desk.add(Case.open(command.kind, command.about, command.number, command.reason, command.evidence))


def propose_case_action(desk: Desk, order: Order) -> Case:
    """Say what is to be done."""
    command = command_as(p.ProposeCaseAction, order)
    by = require_person(order)
    case = _case(desk, order, command)
    case.propose(command.action, command.reason, by)
    return case


def approve_case_action(desk: Desk, order: Order) -> Case:
    """Agree to what another person has proposed."""
    command = command_as(p.ApproveCaseAction, order)
    by = require_person(order)
    case = _case(desk, order, command)
    case.approve(command.action, by)
    return case


def withdraw_case_action(desk: Desk, order: Order) -> Case:
    """Take a proposal back."""
    command = command_as(p.WithdrawCaseAction, order)
    by = require_person(order)
    case = _case(desk, order, command)
    case.withdraw(by)
    return case


def close_case(desk: Desk, order: Order) -> Case:
    """Record that a case is settled."""
    command = command_as(p.CloseCase, order)
    require_operator(order)
    case = _case(desk, order, command)
    if not case.close(command.action):
        raise NothingNew("the case is closed already", case=case.id)
    return case


def _identity(desk: Desk, command: p.IdentityCommand) -> StoreIdentity:
    if desk.exists(command.identity):
        return desk.identity(command.identity)
    return desk.add(StoreIdentity.of(command.subscription))


def _case(desk: Desk, order: Order, command: p.CaseCommand) -> Case:
    found = desk.case(command.case)
    found.expect_version(order.expected_version)
    return found
