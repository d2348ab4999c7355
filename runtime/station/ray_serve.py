"""A station's models on many machines, by Ray Serve: `serve run medge.runtime.station.ray_serve:station`.

Each replica opens the bundles that lie on its own machine, in MEDGE_BUNDLES, and answers as `medge serve` without `--store`. Ray
adds replicas while requests wait. Nobody is asked for a name or a token: only the hospital's own gateway may reach its port.
"""

from __future__ import annotations

import os
from pathlib import Path

from ray import serve
from starlette.types import ASGIApp

from ... import __version__
from .api.app import create_app
from .api.service import Service
from .models.catalogue import Catalogue
from .models.opening import BundleOpener
from .models.shelf import Shelf

CORES = int(os.environ.get("MEDGE_CORES", "4"))  # of a replica
REPLICAS = int(os.environ.get("MEDGE_REPLICAS", "2"))  # at least; at most one on each machine
NAMES = os.environ.get("MEDGE_NAMES", "localhost 127.0.0.1")  # by which the gateway calls it


def models() -> ASGIApp:
    """The application, made in the replica's own process."""
    shelf = Shelf(BundleOpener(threads=CORES, context=None))
    service = Service(Catalogue.read(Path(os.environ["MEDGE_BUNDLES"])), shelf)
    return create_app(service, hosts=frozenset(NAMES.split()), version=__version__)


@serve.deployment(
    ray_actor_options={"num_cpus": CORES}, max_ongoing_requests=8, max_replicas_per_node=1,
    autoscaling_config={"min_replicas": REPLICAS, "max_replicas": 64, "target_ongoing_requests": 2},
)  # fmt: skip
@serve.ingress(models)
class Replica:
    """Nothing of its own: the application is the station's."""


station = Replica.bind()  # type: ignore[attr-defined]  # the decorator makes a Deployment of the class
