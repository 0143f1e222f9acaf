"""The domain's ports for signatures, fulfilled: custodial ones by the signer process, foreign ones by recovery here."""

from collections.abc import Sequence
from typing import Final

from chain.eip712 import BadSignature, TypedSigner
from chain.signer.client import SignerClient
from chain.signer.protocol import (
    CreateWalletKey,
    ProveWallet,
    Refused,
    Request,
    RotateKey,
    Rotation,
    Signature,
    SignBatch,
    SignTrade,
)
from domain.authorship import Signed, Unsigned
from domain.errors import SignatureInvalid, SignerUnavailable
from domain.typed_data import TypedDataError

NOBODY: Final = Signed("0x" + "00" * 20, "0x" + "00" * 65)


class CustodialSigner:
    """domain.authorship.Signer over the signer process."""

    def __init__(self, client: SignerClient, origin: str, chain_id: int, contract: str) -> None:
        """The EIP-712 domain: the book's origin, the chain, the registry's address."""
        self._client = client
        self._domain = (chain_id, contract, origin)

    async def sign(self, messages: Sequence[Unsigned]) -> list[Signed]:
        """A signature per message, in order, by the key at its address ("": the wallet's newest).

        A message that the signer refuses (its key was erased) is signed by nobody, address zero, so that the ledger
        refuses that one command as WrongSigner and its neighbours go on. Raises SignerUnavailable.
        """
        results = await self._client.ask_all([self._request(message) for message in messages])
        signed = []
        for result in results:
            if isinstance(result, Refused):
                if result.code == "unavailable":
                    raise SignerUnavailable(f"signer: {result.reason}")
                signed.append(NOBODY)
            else:
                signed.append(Signed(result.address, result.value))
        return signed

    async def open_wallet(self, wallet_id: str, company: str, nonce: str, deadline: int) -> Signed:
        """The address of a wallet's first key, made if there is none, and its signature over OpenWallet.

        Repeatable: the same wallet id gives the same address, the same nonce and deadline the same signature.
        Raises SignerRefusedError (its key was erased), SignerUnavailable.
        """
        await self._client.ask(CreateWalletKey(wallet_id))
        proof = await self._client.ask(ProveWallet(*self._domain, wallet_id, nonce, deadline, company))
        return Signed(proof.address, proof.value)

    async def rotate_key(self, wallet_id: str, old: str, nonce: str, deadline: int) -> Rotation:
        """A new key for a wallet, and RotateKey signed by the old and by the new one.

        Repeatable: the same nonce gives the same key. The new key counts once WalletKeyRotated is recorded. Raises
        SignerRefusedError, SignerUnavailable.
        """
        return await self._client.ask(RotateKey(*self._domain, wallet_id, nonce, deadline, old))

    def _request(self, message: Unsigned) -> Request[Signature]:
        once = (message.wallet, message.nonce, message.deadline)
        if message.event_type == "BatchSigned":
            data = message.data
            return SignBatch(*self._domain, *once, message.address, data["company"], data["root"], data["count"])
        content = (message.event_type, message.aggregate_id, dict(message.data))
        return SignTrade(*self._domain, *once, message.address, *content)


class TypedVerifier:
    """domain.authorship.SignatureVerifier: who signed a message of this book, chain and contract."""

    def __init__(self, origin: str, chain_id: int, contract: str) -> None:
        """The EIP-712 domain, as for CustodialSigner."""
        self._origin = origin
        self._typed = TypedSigner(chain_id, contract)

    def address_of(self, message: Unsigned, value: str) -> str:
        """EIP-55 address of the signer; SignatureInvalid for what is no strict, low-s signature."""
        try:
            nonce = int(message.nonce, 16)
            content = (message.event_type, self._origin, message.aggregate_id, message.data)
            return self._typed.address_of(self._typed.digest(*content, nonce, message.deadline), value)
        except (BadSignature, TypedDataError) as error:
            raise SignatureInvalid(str(error)) from None
