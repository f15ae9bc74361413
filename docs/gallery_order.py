"""Order of the examples in the gallery: the order of learning, not of the alphabet."""

from pathlib import Path

ORDER = [
    "reconstruct_tissue",
    "figures",
    "anndata",
    "gene_selection",
    "distance_weight",
    "grid_search",
    "splits",
    "several_sections",
    "transfer",
    "anchors",
    "anchored_mds",
    "uncertainty",
    "places",
    "map_cell_types",
    "map_hidden_gene",
    "map_capacity",
    "explain_genes",
    "latent_dimensions",
]


class LearningOrder:
    """Sort key for sphinx-gallery. Examples that are not listed come last."""

    def __init__(self, src_dir):
        pass

    def __call__(self, filename):
        name = Path(filename).stem.removeprefix("plot_")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)
