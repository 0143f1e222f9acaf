"""What all operations share, built once per application."""

from api.auth import Authenticator
from api.cursors import Cursors
from api.keys import key_source
from api.metrics import Metrics
from api.promise import Promiser
from api.reads import Reads
from api.services import Services
from api.settings import ApiSettings


class Context:
    """The services and settings, and the parts built on them."""

    def __init__(self, services: Services, settings: ApiSettings) -> None:
        self.services = services
        self.settings = settings
        self.origin = services.origin
        self.auth = Authenticator(settings, key_source(settings), services.users)
        self.cursors = Cursors(settings.cursor_secret)
        self.metrics = Metrics(services)
        self.promiser = Promiser(services.origin, services.promises)
        self.reads = Reads(services.read_store, services.entries, services.board, settings)
