"""Public Visium sections of 10x Genomics, downloaded once and kept.

May import `_utils`.
"""

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from sklearn.utils import Bunch

from .._utils.optional import import_optional
from ._download import LARGEST, discard, download
from ._readers import read_sections

# Replaced by the tests.
BASE_URL = "https://cf.10xgenomics.com/samples/spatial-exp"

#: Names of the public sections that :func:`fetch_visium` downloads. They are those of
#: ``scanpy.datasets.visium_sge``.
VISIUM_SECTIONS: tuple[str, ...] = (
    # Processed by Space Ranger 1.1.0
    "V1_Breast_Cancer_Block_A_Section_1",
    "V1_Breast_Cancer_Block_A_Section_2",
    "V1_Human_Heart",
    "V1_Human_Lymph_Node",
    "V1_Mouse_Kidney",
    "V1_Adult_Mouse_Brain",
    "V1_Mouse_Brain_Sagittal_Posterior",
    "V1_Mouse_Brain_Sagittal_Posterior_Section_2",
    "V1_Mouse_Brain_Sagittal_Anterior",
    "V1_Mouse_Brain_Sagittal_Anterior_Section_2",
    "V1_Human_Brain_Section_1",
    "V1_Human_Brain_Section_2",
    "V1_Adult_Mouse_Brain_Coronal_Section_1",
    "V1_Adult_Mouse_Brain_Coronal_Section_2",
    # Processed by Space Ranger 1.2.0
    "Targeted_Visium_Human_Cerebellum_Neuroscience",
    "Parent_Visium_Human_Cerebellum",
    "Targeted_Visium_Human_SpinalCord_Neuroscience",
    "Parent_Visium_Human_SpinalCord",
    "Targeted_Visium_Human_Glioblastoma_Pan_Cancer",
    "Parent_Visium_Human_Glioblastoma",
    "Targeted_Visium_Human_BreastCancer_Immunology",
    "Parent_Visium_Human_BreastCancer",
    "Targeted_Visium_Human_OvarianCancer_Pan_Cancer",
    "Targeted_Visium_Human_OvarianCancer_Immunology",
    "Parent_Visium_Human_OvarianCancer",
    "Targeted_Visium_Human_ColorectalCancer_GeneSignature",
    "Parent_Visium_Human_ColorectalCancer",
)


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder where downloads are kept.

    Parameters
    ----------
    data_home : path, default=None
        The folder. None means the environment variable ``SKLEARN_DPVAE_HOME``, or
        ``~/sklearn_dpvae_data`` if it is not set. The folder is not created.

    Returns
    -------
    data_home : Path

    Examples
    --------
    >>> from sklearn_dpvae.datasets import get_data_home
    >>> get_data_home("/tmp/sections").name
    'sections'
    """
    if data_home is None:
        data_home = os.environ.get("SKLEARN_DPVAE_HOME") or Path("~", "sklearn_dpvae_data")
    return Path(data_home).expanduser()


def fetch_visium(
    name: str, *, data_home: str | os.PathLike[str] | None = None, verbose: bool = True
) -> Bunch:
    """Download a public Visium section of 10x Genomics and read it.

    The first call downloads the counts (a few to some tens of megabytes) and the archive of
    positions and small images, and keeps them. Later calls need no network, and check that the
    counts are still the file that was downloaded. A download that broke off is resumed.

    Parameters
    ----------
    name : str
        One of :data:`VISIUM_SECTIONS`.
    data_home : path, default=None
        Folder to keep downloads in; see :func:`get_data_home`.
    verbose : bool, default=True
        Whether to show the progress of downloads on stderr.

    Returns
    -------
    section : :class:`~sklearn.utils.Bunch`
        As :func:`read_sections` returns it: X, coords, genes, sections (all `name`), obs_names.

    Raises
    ------
    ValueError
        If the name is unknown, a file that arrived is damaged, or the server's file is not the
        one that was downloaded before. A damaged file is removed, so that the next call
        downloads it again.
    ConnectionError
        If the server cannot be reached, or the transfer breaks off again and again.
    OSError
        If the server lacks or refuses a file.
    ImportError
        If a package of the extra ``fetch`` is missing.

    See Also
    --------
    read_sections : Read sections from disk.

    Notes
    -----
    The sections are described at https://www.10xgenomics.com/datasets (10x Genomics,
    Creative Commons Attribution 4.0).

    Examples
    --------
    >>> from sklearn_dpvae.datasets import VISIUM_SECTIONS, fetch_visium
    >>> len(VISIUM_SECTIONS)
    27
    >>> section = fetch_visium("V1_Human_Heart")  # doctest: +SKIP
    """
    if name not in VISIUM_SECTIONS:
        raise ValueError(
            f"unknown section name={name!r}. Pass one of: {', '.join(VISIUM_SECTIONS)}."
        )
    # Fail before megabytes are downloaded that could not be read.
    import_optional("h5py", extra="fetch", purpose="reading 10x .h5 files")
    folder = get_data_home(data_home) / "visium" / name
    version = "1.1.0" if name.startswith("V1_") else "1.2.0"
    url = f"{BASE_URL}/{version}/{name}/{name}"

    counts = folder / "filtered_feature_bc_matrix.h5"
    download(f"{url}_{counts.name}", counts, verbose=verbose)
    if not (folder / "spatial").is_dir():
        archive = folder / "spatial.tar.gz"
        download(f"{url}_{archive.name}", archive, verbose=verbose)
        _unpack(archive, folder)
    try:
        return read_sections({name: folder})
    except ValueError:
        # A file of the right size that cannot be read is not worth keeping.
        discard(counts)
        shutil.rmtree(folder / "spatial", ignore_errors=True)
        raise


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the folder ``spatial`` of an archive, whole or not at all, and delete the archive."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            with gzip.open(archive) as stream:
                with tarfile.open(fileobj=stream) as tar:
                    size = sum(member.size for member in tar)
                    if size > LARGEST:
                        raise tarfile.TarError(f"its files have {size:,} bytes")
                    # The filter refuses members that would land elsewhere.
                    tar.extractall(scratch, filter="data")
                # The checksum is at the very end, which tar does not read.
                while stream.read(1 << 20):
                    pass
            os.replace(Path(scratch, "spatial"), folder / "spatial")
        except (
            tarfile.TarError,
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
            FileNotFoundError,
        ) as error:
            discard(archive)
            raise ValueError(
                f"{archive} is damaged ({error}) and was removed. Call again to download it anew."
            ) from error
    archive.unlink()
