"""Which labels a method takes: the one place that asks.

Imports nothing of this package.
"""

import inspect
from typing import Any

from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object


def routing_is_on() -> bool:
    """Whether scikit-learn's metadata routing is enabled."""
    return bool(get_config()["enable_metadata_routing"])


def takes(estimator: Any, method: str, label: str) -> bool:
    """Whether a method of an estimator is to be given a label, such as `sections`.

    With metadata routing off, the signature tells. With routing on, the requests have a say, too:
    a step that was told ``set_predict_request(sections=False)`` gets none, and a meta-estimator
    takes what one of its parts requests by this name.

    Parameters
    ----------
    estimator : object
    method : str
        Name of the method. The answer is False if the estimator does not have it.
    label : str
        Name of the keyword.

    Returns
    -------
    bool

    Examples
    --------
    >>> from sklearn_dpvae._utils.routing import takes
    >>> from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler
    >>> takes(SectionScaler(), "transform", "sections")
    True
    >>> takes(LogNormalizer(), "transform", "sections")
    False
    """
    function = getattr(estimator, method, None)
    if function is None:
        return False
    in_signature = label in inspect.signature(function).parameters
    if not routing_is_on() or not hasattr(estimator, "get_metadata_routing"):
        return in_signature
    routing = get_routing_for_object(estimator)
    if isinstance(routing, MetadataRouter):
        return label in routing.consumes(method, [label])
    # scikit-learn keeps no requests for methods that it does not know, such as `calibrate`.
    request = getattr(routing, method, None)
    return in_signature and (request is None or request.requests.get(label) is not False)


def given(estimator: Any, method: str, **labels: Any) -> dict[str, Any]:
    """Keywords for a method: the labels that it takes, without those that are None."""
    return {
        label: values
        for label, values in labels.items()
        if values is not None and takes(estimator, method, label)
    }


def with_anchors(anchors: Any, adapt: Any) -> dict[str, Any]:
    """Keywords that say what is known of the query; none where nothing is."""
    return {} if anchors is None else {"anchors": anchors, "adapt": adapt}


def sections_for(estimator: Any, method: str, sections: ArrayLike | None) -> dict[str, Any]:
    """Section labels as a keyword, for a method that takes them."""
    return given(estimator, method, sections=sections)
