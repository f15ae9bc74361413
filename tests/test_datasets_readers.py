"""Reading of AnnData, .h5ad and Space Ranger folders, from files written here."""

import gzip
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

from sklearn_dpvae.datasets import make_tissue, read_sections
from sklearn_dpvae.datasets._section_labels import warn_of_pieces

anndata = pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")
pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def counts():
    return make_tissue(40, 12, random_state=0)


@pytest.fixture
def adata(counts):
    return anndata.AnnData(
        counts.X.copy(),
        obs=pandas.DataFrame({"section": np.repeat(["b", "a"], 20)}, index=counts.obs_names),
        var=pandas.DataFrame(index=counts.genes),
        obsm={"spatial": counts.coords.copy()},
    )


def write_h5(path, X, genes, barcodes, kinds=None):
    """Write a feature-barcode matrix as Cell Ranger 3 and later do."""
    X = sparse.csr_matrix(X)
    kinds = ["Gene Expression"] * len(genes) if kinds is None else kinds
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = X.data, X.indices, X.indptr
        group["shape"] = np.array(X.T.shape, dtype=np.int32)
        group["barcodes"] = np.array(barcodes, dtype="S")
        features = group.create_group("features")
        features["name"] = np.array(genes, dtype="S")
        features["id"] = np.array([f"ENSG{i:04d}" for i in range(len(genes))], dtype="S")
        features["feature_type"] = np.array(kinds, dtype="S")


def write_mtx(folder, X, genes, barcodes, *, compress=True, features="features.tsv"):
    folder.mkdir(parents=True, exist_ok=True)
    opener, end = (gzip.open, ".gz") if compress else (open, "")
    with opener(folder / f"matrix.mtx{end}", "wb") as file:
        io.mmwrite(file, sparse.coo_matrix(X.T), field="integer")
    with opener(folder / f"{features}{end}", "wt") as file:
        file.writelines(f"ENSG{i}\t{gene}\tGene Expression\n" for i, gene in enumerate(genes))
    with opener(folder / f"barcodes.tsv{end}", "wt") as file:
        file.writelines(f"{barcode}\n" for barcode in barcodes)


def positions(counts, *, outside=3):
    """The table of positions: the cells in an order of their own, and spots beside the tissue."""
    barcodes = [*counts.obs_names[::-1], *(f"empty_{i}" for i in range(outside))]
    n = len(barcodes)
    x = np.concatenate([counts.coords[::-1, 0], np.zeros(outside)])
    y = np.concatenate([counts.coords[::-1, 1], np.zeros(outside)])
    return pandas.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": np.repeat([1, 0], [n - outside, outside]),
            "array_row": np.arange(n),
            "array_col": np.arange(n),
            "pxl_row_in_fullres": y,
            "pxl_col_in_fullres": x,
        }
    )


def write_positions(folder, table, *, name="tissue_positions.csv"):
    spatial = folder / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        table.to_parquet(spatial / name)
    else:
        table.to_csv(spatial / name, index=False, header="list" not in name)


def write_visium(folder, counts, *, name="tissue_positions.csv"):
    write_h5(folder / "filtered_feature_bc_matrix.h5", counts.X, counts.genes, counts.obs_names)
    write_positions(folder, positions(counts), name=name)
    return folder


def assert_same(section, counts, *, sections):
    assert sparse.isspmatrix_csr(section.X)
    np.testing.assert_array_equal(section.X.toarray(), counts.X.toarray())
    np.testing.assert_allclose(section.coords, counts.coords)
    assert section.genes.tolist() == counts.genes.tolist()
    assert section.obs_names.tolist() == counts.obs_names.tolist()
    assert section.sections.tolist() == sections
    assert all(section[k].dtype.kind == "U" for k in ("genes", "sections", "obs_names"))


# AnnData and .h5ad


def test_anndata(adata, counts):
    assert_same(read_sections(adata), counts, sections=["b"] * 20 + ["a"] * 20)


def test_h5ad_by_path_or_string(adata, counts, tmp_path):
    path = tmp_path / "cortex.h5ad"
    adata.write_h5ad(path)
    for source in (path, str(path)):
        assert_same(read_sections(source), counts, sections=["b"] * 20 + ["a"] * 20)


def test_backed_anndata(adata, counts, tmp_path):
    adata.write_h5ad(tmp_path / "cortex.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cortex.h5ad", backed="r")
    assert_same(read_sections(backed), counts, sections=["b"] * 20 + ["a"] * 20)
    backed.file.close()


def test_dense_expression_becomes_csr(adata, counts):
    adata.X = counts.X.toarray().astype(np.float32)
    section = read_sections(adata)
    assert sparse.isspmatrix_csr(section.X) and section.X.dtype == np.float32


@pytest.mark.parametrize("how", ["no column", "None"])
def test_without_labels_a_source_is_one_section(adata, counts, how, tmp_path):
    if how == "no column":
        del adata.obs["section"]
    adata.write_h5ad(tmp_path / "cortex.h5ad")
    key = "section" if how == "no column" else None
    section = read_sections(tmp_path / "cortex.h5ad", section_key=key)
    assert_same(section, counts, sections=["cortex"] * 40)


def test_other_keys(adata, counts):
    adata.obs["slide"] = np.repeat([7, 8], 20)
    adata.obsm["xy"] = pandas.DataFrame(counts.coords + 1, index=adata.obs_names)
    section = read_sections(adata, spatial_key="xy", section_key="slide")
    np.testing.assert_array_equal(section.coords, counts.coords + 1)
    assert section.sections.tolist() == ["7"] * 20 + ["8"] * 20


def test_layers_and_raw(adata, counts):
    adata.layers["counts"] = counts.X * 2
    adata.raw = adata.copy()
    adata = adata[:, :5].copy()
    adata.X = None
    np.testing.assert_array_equal(
        read_sections(adata, layer="counts").X.toarray(), 2 * counts.X[:, :5].toarray()
    )
    raw = read_sections(adata, layer="raw")
    np.testing.assert_array_equal(raw.X.toarray(), counts.X.toarray())
    assert raw.genes.tolist() == counts.genes.tolist()
    with pytest.raises(ValueError, match=r"has no \.X\. Pass layer= .*one of .*'counts'"):
        read_sections(adata)


def test_a_query_has_no_positions(adata):
    del adata.obsm["spatial"]
    assert read_sections(adata).coords is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "spliced"}, "no layer='spliced'; it has 'counts'"),
        ({"spatial_key": "xyz"}, "spatial_key='xyz'; .obsm has 'spatial'"),
        ({"section_key": "slide"}, "section_key='slide'; .obs has 'section'"),
    ],
)
def test_unknown_keys_say_what_is_there(adata, settings, message):
    adata.layers["counts"] = adata.X
    with pytest.raises(ValueError, match=message):
        read_sections(adata, **settings)


def test_missing_labels_raise(adata):
    adata.obs["section"] = pandas.Categorical(["a"] * 39 + [None])
    with pytest.raises(ValueError, match="1 missing label"):
        read_sections(adata)


def test_repeated_genes_are_made_unique_with_one_warning(adata, counts, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.var_names = ["TBCE", "TBCE", *counts.genes[2:]]
        adata.write_h5ad(tmp_path / "cortex.h5ad")
    with pytest.warns(UserWarning, match="cortex: 1 names of genes .*TBCE.*-1, -2") as seen:
        section = read_sections(tmp_path / "cortex.h5ad")
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert section.genes[:3].tolist() == ["TBCE", "TBCE-1", "gene_0003"]


@pytest.mark.parametrize("content", ["empty", "text", "truncated", "other HDF5"])
def test_damaged_h5ad(adata, tmp_path, content):
    path = tmp_path / "cortex.h5ad"
    adata.write_h5ad(path)
    if content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("cells,genes\n")
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        with h5py.File(path, "w") as file:
            file["numbers"] = [1, 2]
    with pytest.raises(ValueError, match=r"cortex\.h5ad is (not a readable|a table of text)"):
        read_sections(path)


def test_h5ad_without_cells(adata, tmp_path):
    adata[:0].copy().write_h5ad(tmp_path / "cortex.h5ad")
    with pytest.raises(ValueError, match=r"cortex\.h5ad has no cells or no genes .* \(0, 12\)"):
        read_sections(tmp_path / "cortex.h5ad")


def test_missing_file_and_wrong_type(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*nothing.h5ad"):
        read_sections(tmp_path / "nothing.h5ad")
    with pytest.raises(TypeError, match=r"source must be a path, an AnnData.* got int"):
        read_sections(3)
    with pytest.raises(ValueError, match="source is empty"):
        read_sections([])


# Space Ranger


@pytest.mark.parametrize(
    "name",
    [
        "tissue_positions.csv",
        "tissue_positions_list.csv",
        "tissue_positions_list.csv.gz",
        "GSM1_tissue_positions_list.csv",
        "tissue_positions.parquet",
    ],
)
def test_space_ranger_h5(counts, tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write_visium(tmp_path / "kidney" / "outs", counts, name=name)
    section = read_sections(tmp_path / "kidney" / "outs")
    assert_same(section, counts, sections=["kidney"] * 40)
    assert section.X.dtype == np.int32


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("features", ["features.tsv", "genes.tsv"])
def test_space_ranger_mtx(counts, tmp_path, compress, features):
    folder = tmp_path / "kidney"
    write_mtx(
        folder / "filtered_feature_bc_matrix",
        counts.X,
        counts.genes,
        counts.obs_names,
        compress=compress,
        features=features,
    )
    write_positions(folder, positions(counts))
    section = read_sections(folder)
    assert_same(section, counts, sections=["kidney"] * 40)
    assert section.X.dtype == np.int32


def test_agrees_with_scanpy(counts, tmp_path):
    scanpy = pytest.importorskip("scanpy")
    folder = write_visium(tmp_path / "kidney", counts, name="tissue_positions_list.csv")
    (folder / "spatial" / "scalefactors_json.json").write_text("{}")
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "a") as file:
        file.attrs["library_ids"] = np.array([b"kidney"])
        file["matrix/features/genome"] = np.full(12, b"mm10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Without images scanpy leaves out the positions too.
        (folder / "spatial" / "tissue_hires_image.png").write_bytes(PIXEL)
        (folder / "spatial" / "tissue_lowres_image.png").write_bytes(PIXEL)
        expected = scanpy.read_visium(folder)
    section = read_sections(folder)
    np.testing.assert_array_equal(section.X.toarray(), expected.X.toarray())
    np.testing.assert_allclose(section.coords, expected.obsm["spatial"])
    assert section.genes.tolist() == expected.var_names.tolist()


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fea735810d0000000049454e44ae426082"
)


def test_matrix_file_itself_and_prefixed_names(counts, tmp_path):
    folder = tmp_path / "kidney"
    write_h5(folder / "S1_filtered_feature_bc_matrix.h5", counts.X, counts.genes, counts.obs_names)
    write_positions(folder, positions(counts))
    assert_same(read_sections(folder), counts, sections=["kidney"] * 40)
    section = read_sections(folder / "S1_filtered_feature_bc_matrix.h5")
    assert_same(section, counts, sections=["S1_filtered_feature_bc_matrix"] * 40)

    write_h5(folder / "S2_filtered_feature_bc_matrix.h5", counts.X, counts.genes, counts.obs_names)
    with pytest.raises(FileNotFoundError, match=r"several matrices .S1_filtered.*S2_filtered"):
        read_sections(folder)
    write_visium(folder, counts)
    section = read_sections(folder / "filtered_feature_bc_matrix.h5")
    assert_same(section, counts, sections=["kidney"] * 40)


def test_cell_ranger_output_is_a_query(counts, tmp_path):
    write_mtx(tmp_path / "cells", counts.X, counts.genes, counts.obs_names)
    section = read_sections(tmp_path / "cells")
    assert section.coords is None
    assert section.sections.tolist() == ["cells"] * 40


def test_antibodies_are_left_out(counts, tmp_path):
    kinds = ["Gene Expression"] * 10 + ["Antibody Capture"] * 2
    path = tmp_path / "filtered_feature_bc_matrix.h5"
    write_h5(path, counts.X, counts.genes, counts.obs_names, kinds)
    with pytest.warns(UserWarning, match=r"2 of 12 features .* left out \(2 Antibody Capture\)"):
        section = read_sections(path)
    assert section.report == {"features that are not genes": {"Antibody Capture": 2}}
    np.testing.assert_array_equal(section.X.toarray(), counts.X[:, :10].toarray())
    assert section.genes.tolist() == counts.genes[:10].tolist()

    write_h5(path, counts.X, counts.genes, counts.obs_names, ["Antibody Capture"] * 12)
    with pytest.raises(ValueError, match="no feature of the type 'Gene Expression'"):
        read_sections(path)


def test_barcodes_without_tissue_are_dropped_with_a_warning(counts, tmp_path):
    folder = write_visium(tmp_path / "kidney", counts)
    table = positions(counts)
    table.loc[table["barcode"] == "cell_00002", "in_tissue"] = 0
    write_positions(folder, table)
    with pytest.warns(UserWarning, match="kidney: 1 of 40 barcodes are not under tissue") as seen:
        section = read_sections(folder)
    assert seen[0].filename == __file__
    kept = np.delete(np.arange(40), 1)
    np.testing.assert_array_equal(section.X.toarray(), counts.X[kept].toarray())
    np.testing.assert_allclose(section.coords, counts.coords[kept])


def test_positions_of_another_section(counts, tmp_path):
    folder = write_visium(tmp_path / "kidney", counts)
    write_positions(folder, positions(counts).assign(barcode=[f"AAAC-{i}" for i in range(43)]))
    with pytest.raises(ValueError, match=r"none of the 40 barcodes .*cell_00001.*AAAC"):
        read_sections(folder)


def test_missing_parts(counts, tmp_path):
    folder = tmp_path / "kidney"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no count matrix in .*kidney"):
        read_sections(folder)
    write_visium(folder, counts)
    (folder / "spatial" / "tissue_positions.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no positions of spots in .*spatial"):
        read_sections(folder)
    write_mtx(tmp_path / "cells", counts.X, counts.genes, counts.obs_names)
    (tmp_path / "cells" / "features.tsv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no features.tsv or genes.tsv"):
        read_sections(tmp_path / "cells")
    with pytest.raises(ValueError, match="a format that has no layers; got layer='counts'"):
        read_sections(tmp_path / "cells", layer="counts")


@pytest.mark.parametrize("damage", ["truncated", "text", "no matrix", "indices", "names"])
def test_damaged_h5(counts, tmp_path, damage):
    path = tmp_path / "filtered_feature_bc_matrix.h5"
    write_h5(path, counts.X, counts.genes, counts.obs_names)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "text":
        path.write_text("<html>404</html>")
    else:
        with h5py.File(path, "a") as file:
            if damage == "no matrix":
                del file["matrix"]
            elif damage == "indices":
                file["matrix/indices"][...] = 99
            else:
                del file["matrix/barcodes"]
                file["matrix/barcodes"] = np.array([b"one"])
    with pytest.raises(ValueError, match=r"filtered_feature_bc_matrix\.h5"):
        read_sections(path)


@pytest.mark.parametrize("damage", ["text", "truncated", "counts"])
def test_damaged_mtx(counts, tmp_path, damage):
    write_mtx(tmp_path, counts.X, counts.genes, counts.obs_names)
    path = tmp_path / "matrix.mtx.gz"
    if damage == "text":
        path.write_text("no gzip")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        with gzip.open(tmp_path / "barcodes.tsv.gz", "wt") as file:
            file.write("one\n")
    with pytest.raises(ValueError, match=r"matrix.mtx.gz"):
        read_sections(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a table of 6 columns"),
        ("barcode,in_tissue\nc,1\n", "lacks the column"),
        ("c,1,0,0,5\n", "not a table of 6 columns"),
        ("c,1,0,0,here,there\n", "not numbers"),
        ("c,yes,0,0,1,2\n", "in_tissue='yes'; write 1 or 0"),
        (b"\xff\xfe\x00", "not a readable table"),
    ],
)
def test_damaged_positions(counts, tmp_path, content, message):
    folder = write_visium(tmp_path / "kidney", counts)
    content = content.encode() if isinstance(content, str) else content
    (folder / "spatial" / "tissue_positions.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_sections(folder)


def test_parquet_without_pyarrow_names_the_extra(counts, tmp_path, monkeypatch):
    folder = write_visium(tmp_path / "kidney", counts)
    (folder / "spatial" / "tissue_positions.csv").unlink()
    (folder / "spatial" / "tissue_positions.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-dpvae\[anndata\]"'):
        read_sections(folder)


# Several sources


def test_list_is_put_together_on_common_genes(adata, counts, tmp_path):
    adata[:20, ::-1].copy().write_h5ad(tmp_path / "one.h5ad")
    two = adata[20:, 2:].copy()
    del two.obs["section"]
    two.write_h5ad(tmp_path / "two.h5ad")
    both = read_sections([tmp_path / "one.h5ad", tmp_path / "two.h5ad"])
    assert both.genes.tolist() == counts.genes[:1:-1].tolist()
    np.testing.assert_array_equal(both.X.toarray(), counts.X[:, :1:-1].toarray())
    np.testing.assert_array_equal(both.coords, counts.coords)
    assert both.sections.tolist() == ["b"] * 20 + ["two"] * 20
    assert both.obs_names.tolist() == counts.obs_names.tolist()


def test_dict_names_sections_and_shared_labels_are_prefixed(adata):
    both = read_sections({"x": adata, "y": adata})
    assert sorted(set(both.sections.tolist())) == ["x_a", "x_b", "y_a", "y_b"]
    assert len(set(both.obs_names.tolist())) == 80
    assert both.obs_names[-1] == "y_cell_00040"


def test_equal_file_names_stay_apart(counts, tmp_path):
    folders = [write_visium(tmp_path / day / "kidney", counts) for day in ("mon", "tue")]
    both = read_sections(folders)
    assert sorted(set(both.sections.tolist())) == ["kidney", "kidney-1"]


def test_unnamed_anndatas_are_numbered(adata):
    del adata.obs["section"]
    assert sorted(set(read_sections((adata, adata)).sections)) == ["section_1", "section_2"]
    assert len(set(read_sections([adata]).sections)) == 1


def test_sources_that_do_not_fit_together(adata):
    other = adata.copy()
    other.var_names = [f"x{i}" for i in range(12)]
    with pytest.raises(ValueError, match=r"no gene in common: one has gene_0001.*; two has x0"):
        read_sections({"one": adata, "two": other})
    query = adata.copy()
    del query.obsm["spatial"]
    with pytest.raises(ValueError, match="one: 2, two: no positions"):
        read_sections({"one": adata, "two": query})


def test_without_anndata_the_extra_is_named(adata, tmp_path, monkeypatch):
    adata.write_h5ad(tmp_path / "cortex.h5ad")
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with pytest.raises(ImportError, match=r'reading .h5ad files.*"sklearn-dpvae\[anndata\]"'):
        read_sections(tmp_path / "cortex.h5ad")


@pytest.mark.skipif("SKLEARN_DPVAE_DATA" not in os.environ, reason="needs real sections")
def test_real_sections_read_as_they_are():
    paths = sorted(Path(os.environ["SKLEARN_DPVAE_DATA"]).glob("*.h5ad"))
    assert paths
    for path in paths:
        section = read_sections(path)
        expected = anndata.read_h5ad(path)
        assert section.X.shape == expected.shape
        assert (section.X != expected.X).nnz == 0
        np.testing.assert_array_equal(section.coords, expected.obsm["spatial"])
        if "section" in expected.obs:
            assert section.sections.tolist() == expected.obs["section"].astype(str).tolist()
        else:
            assert set(section.sections) == {path.stem}


# What is kept elsewhere, or lacks


@pytest.mark.parametrize("key", ["X_spatial", "spatial3d"])
def test_positions_under_another_key_are_found(adata, counts, key):
    adata.obsm[key] = adata.obsm.pop("spatial")
    with pytest.warns(UserWarning, match=f"positions are taken from .obsm.*{key}"):
        found = read_sections(adata)
    np.testing.assert_array_equal(found.coords, counts.coords)
    assert read_sections(adata, spatial_key=None).coords is None


@pytest.mark.parametrize(
    "columns",
    [("x", "y"), ("imagecol", "imagerow"), ("pxl_col_in_fullres", "pxl_row_in_fullres")],
)
def test_positions_in_columns_are_found(adata, counts, columns):
    adata.obs[columns[1]], adata.obs[columns[0]] = adata.obsm.pop("spatial").T[::-1]
    with pytest.warns(UserWarning, match=f"are taken from .obs.*{columns[0]}.*{columns[1]}"):
        found = read_sections(adata)
    np.testing.assert_array_equal(found.coords, counts.coords)


def test_positions_in_several_places_are_not_guessed(adata):
    adata.obsm["X_spatial"] = adata.obsm.pop("spatial")
    adata.obs["x"] = adata.obs["y"] = 1.0
    with pytest.raises(ValueError, match=r"may be in .obsm\['X_spatial'\] or .obs.*'x', 'y'"):
        read_sections(adata)


def test_array_rows_and_predictions_are_no_positions(adata):
    adata.obsm["spatial_dpvae"] = adata.obsm["X_umap"] = adata.obsm.pop("spatial")
    adata.obs["array_row"] = adata.obs["array_col"] = 1
    assert read_sections(adata).coords is None


def test_signs_of_several_sections(adata):
    adata.obs = adata.obs.rename(columns={"section": "library_id"})
    with pytest.warns(UserWarning, match=r"2 labels \(b, a\).*pass section_key='library_id'"):
        read_sections(adata)
    read_sections(adata, section_key="library_id")
    read_sections(adata, section_key=None)

    del adata.obs["library_id"]
    adata.obs["sample"] = "one"
    adata.obs["batch"] = [f"each is its own {i}" for i in range(40)]
    read_sections(adata)
    adata.uns["spatial"] = {"left": {}}
    read_sections(adata)
    adata.uns["spatial"] = {"left": {}, "right": {}}
    with pytest.warns(UserWarning, match=r"2 libraries \(left, right\)"):
        read_sections(adata)

    del adata.uns["spatial"]
    ends = ["ACGT"[i // 16] + "ACGT"[i // 4 % 4] + "ACGT"[i % 4] for i in range(40)]
    adata.obs_names = ["ACGT" * 4 + end + f"-{1 + (i > 20)}" for i, end in enumerate(ends)]
    with pytest.warns(UserWarning, match=r"barcodes end on 2 numbers \(1, 2\)"):
        read_sections(adata)
    barcodes = [name.removesuffix("-2").removesuffix("-1") for name in adata.obs_names]
    for name, message in (
        ("{0}-1-{1}", r"end on 2 numbers \(1-0, 1-1\)"),
        ("{0}-1_{1}", r"end on 2 texts \(-1_0, -1_1\)"),
        ("s{1}_{0}-1", r"begin with 2 texts \(s0_, s1_\)"),
    ):
        adata.obs_names = [name.format(bases, i % 2) for i, bases in enumerate(barcodes)]
        with pytest.warns(UserWarning, match=message):
            read_sections(adata)
    adata.obs_names = [f"{bases}-1" for bases in barcodes]
    read_sections(adata)


def test_labels_of_whole_numbers_read_alike(adata):
    adata.obs["section"] = np.repeat([1.0, 2.0], 20)
    assert read_sections(adata).sections.tolist() == ["1"] * 20 + ["2"] * 20


def test_columns_of_positions_are_chosen_by_name(adata, counts):
    x, y = counts.coords.T
    frame = pandas.DataFrame({"fov": 1.0, "y": y, "x": x}, index=adata.obs_names)
    adata.obsm["spatial"] = frame
    with pytest.warns(UserWarning, match=r"columns fov, y, x; x, y are taken"):
        np.testing.assert_array_equal(read_sections(adata).coords, counts.coords)
    adata.obsm["spatial"] = frame[["y", "x"]]
    np.testing.assert_array_equal(read_sections(adata).coords, counts.coords)
    adata.obsm["spatial"] = frame.assign(z=2.0)[["z", "y", "x"]]
    assert read_sections(adata).coords.shape == (40, 3)
    adata.obsm["spatial"] = frame.set_axis(["a", "b", "c"], axis=1)
    with pytest.raises(ValueError, match="columns a, b, c, and it is not clear which"):
        read_sections(adata)
    adata.obsm["spatial"] = frame[["x", "y"]].assign(y="here")
    with pytest.raises(ValueError, match=r"obsm\['spatial'\] of section_1 are not numbers"):
        read_sections(adata)


def test_pieces_far_apart_are_noticed():
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 100, (300, 2))
    with pytest.warns(UserWarning, match=r"brain is taken for .* 2 pieces far apart \(60%, 40%"):
        warn_of_pieces(np.vstack([one, one[:200] + np.array([200, 0])]), "brain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_pieces(one, "brain")
        # A few cells far away are no piece, nor are two hemispheres.
        warn_of_pieces(np.vstack([one, one[:20] + np.array([1000, 0])]), "brain")
        warn_of_pieces(np.vstack([one, one + np.array([110, 0])]), "brain")
        warn_of_pieces(one[:50] * [1, 100], "brain")


def test_a_matrix_that_points_outside_is_named_with_its_file(adata, tmp_path):
    h5py = pytest.importorskip("h5py")
    adata.X = sparse.csr_matrix(adata.X)
    adata.write_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "s.h5ad", "r+") as file:
        file["X/indices"][3] = 10_000
    with pytest.raises(ValueError, match=r"s\.h5ad: X: the sparse matrix is damaged"):
        read_sections(tmp_path / "s.h5ad")
