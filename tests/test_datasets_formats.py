"""Files and folders are told by their content; all go through one cleaning."""

import gzip
import json
import re
import shutil
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from sklearn_dpvae.datasets import make_tissue, read_sections
from sklearn_dpvae.datasets._containers import add_shapes, table_of

anndata = pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")
pandas = pytest.importorskip("pandas")

from test_datasets_readers import (  # noqa: E402
    positions,
    write_h5,
    write_mtx,
    write_positions,
    write_visium,
)


@pytest.fixture(scope="module")
def counts():
    return make_tissue(40, 12, random_state=0)


@pytest.fixture
def adata(counts):
    return anndata.AnnData(
        counts.X.copy(),
        obs=pandas.DataFrame(index=counts.obs_names),
        var=pandas.DataFrame({"gene_ids": [f"E{i}" for i in range(12)]}, index=counts.genes),
        obsm={"spatial": counts.coords.copy()},
    )


def assert_counts(section, counts, *, coords=True):
    np.testing.assert_array_equal(section.X.toarray(), counts.X.toarray())
    assert section.genes.tolist() == counts.genes.tolist()
    if coords:
        np.testing.assert_allclose(section.coords, counts.coords)
    else:
        assert section.coords is None


# Paths


@pytest.mark.parametrize("name", ["r.h5", "r.H5AD", "r.hdf5", "r.anndata"])
def test_an_anndata_is_read_whatever_its_file_is_called(adata, counts, tmp_path, name):
    adata.write_h5ad(tmp_path / "r.h5ad")
    shutil.move(tmp_path / "r.h5ad", tmp_path / name)
    assert_counts(read_sections(tmp_path / name), counts)


def test_compressed_h5ad(adata, counts, tmp_path):
    adata.write_h5ad(tmp_path / "r.h5ad")
    content = (tmp_path / "r.h5ad").read_bytes()
    path = tmp_path / "cortex.h5ad.gz"
    path.write_bytes(gzip.compress(content))
    section = read_sections(path)
    assert_counts(section, counts)
    assert set(section.sections) == {"cortex"}
    path.write_bytes(gzip.compress(content)[:-2000])
    with pytest.raises(ValueError, match=r"cortex.h5ad.gz is damaged or cut short"):
        read_sections(path)


def test_several_paths_of_many_kinds(adata, counts, tmp_path, monkeypatch):
    adata[:20].copy().write_h5ad(tmp_path / "a.h5ad")
    adata[20:].copy().write_h5ad(tmp_path / "b.h5ad")
    both = ["a"] * 20 + ["b"] * 20
    names = [str(tmp_path / f"{name}.h5ad") for name in "ab"]
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (
        (Path(name) for name in names),
        pandas.Series(names, index=[7, 9]),
        np.array(names),
        "~/*.h5ad",
        f"{tmp_path}/[ab].h5ad",
        ["~/a.h5ad", names[1]],
    ):
        section = read_sections(source)
        assert_counts(section, counts)
        assert section.sections.tolist() == both
    assert read_sections({"x": "~/a.h5ad"}).sections[0] == "x"
    with pytest.raises(FileNotFoundError, match=r"fits the pattern .*\*\.h5mu"):
        read_sections("~/*.h5mu")
    with pytest.raises(ValueError, match="pattern of 'x' fits 2 files"):
        read_sections({"x": "~/*.h5ad"})


# 10x


def test_cell_ranger_2_and_numbers_written_from_r(counts, tmp_path):
    write_h5(tmp_path / "v3.h5", counts.X, counts.genes, counts.obs_names)
    with h5py.File(tmp_path / "v3.h5", "a") as file:
        group = file["matrix"]
        for key in ("shape", "indices", "indptr"):
            values = group[key][()].astype(float)
            del group[key]
            group[key] = values
        with h5py.File(tmp_path / "v2.h5", "w") as old:
            for key in ("shape", "indices", "indptr", "data", "barcodes"):
                group.copy(key, old.require_group("mm10"))
            old["mm10/gene_names"] = group["features/name"][()]
            old["mm10/genes"] = group["features/id"][()]
    for name in ("v2", "v3"):
        section = read_sections(tmp_path / f"{name}.h5")
        assert_counts(section, counts, coords=False)
        assert section.gene_ids[3] == "ENSG0003"
    with h5py.File(tmp_path / "v2.h5", "a") as file:
        file.copy("mm10", "hg19")
    with pytest.raises(ValueError, match="2 genomes: hg19, mm10"):
        read_sections(tmp_path / "v2.h5")


@pytest.mark.parametrize(
    "part",
    ["", "outs", "outs/spatial", "outs/filtered_feature_bc_matrix.h5"],
)
def test_any_folder_of_space_ranger(counts, tmp_path, part):
    write_visium(tmp_path / "kidney" / "outs", counts)
    section = read_sections(tmp_path / "kidney" / part)
    assert_counts(section, counts)
    assert set(section.sections) == {"kidney"}


@pytest.mark.parametrize("part", ["", "filtered_feature_bc_matrix", "matrix"])
def test_matrix_market_finds_its_positions(counts, tmp_path, part):
    folder = tmp_path / "kidney"
    matrix = folder / "filtered_feature_bc_matrix"
    write_mtx(matrix, counts.X, counts.genes, counts.obs_names)
    write_positions(folder, positions(counts))
    path = matrix / "matrix.mtx.gz" if part == "matrix" else folder / part
    section = read_sections(path)
    assert_counts(section, counts)
    assert section.gene_ids[3] == "ENSG3"


def test_bin_sizes_are_listed(counts, tmp_path):
    folder = tmp_path / "kidney" / "outs"
    small = folder / "binned_outputs" / "square_008um"
    write_visium(small, counts, name="tissue_positions.parquet")
    assert_counts(read_sections(tmp_path / "kidney"), counts)
    write_visium(folder / "binned_outputs" / "square_016um", counts)
    with pytest.raises(ValueError, match=r"one of .*square_008um, .*square_016um"):
        read_sections(folder)
    assert_counts(read_sections(small), counts)


def test_segmented_cells_are_at_the_centroids_of_their_outlines(counts, tmp_path):
    folder = tmp_path / "kidney" / "outs" / "segmented_outputs"
    barcodes = [f"cellid_{i + 1:09d}-1" for i in range(40)]
    write_h5(folder / "filtered_feature_cell_matrix.h5", counts.X, counts.genes, barcodes)
    # Three vertices on one side, so that the mean of the vertices is not the centroid.
    square = np.array([[-1, -1], [0, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    features = [
        {"properties": {"cell_id": i + 1}, "geometry": {"coordinates": [(square + c).tolist()]}}
        for i, c in enumerate(counts.coords)
    ]
    (folder / "cell_segmentations.geojson").write_text(json.dumps({"features": features[::-1]}))
    assert_counts(read_sections(folder.parent), counts)


def test_libraries_of_aggr_are_sections(counts, tmp_path):
    barcodes = [f"{name}-{1 + (i >= 25)}" for i, name in enumerate(counts.obs_names)]
    write_h5(tmp_path / "filtered_feature_bc_matrix.h5", counts.X, counts.genes, barcodes)
    table = positions(counts, outside=0)
    table["barcode"] = barcodes[::-1]
    write_positions(tmp_path, table, name="aggr_tissue_positions.csv")
    with pytest.warns(UserWarning, match=r"end on 2 numbers, .* taken for sections \(1, 2\)"):
        section = read_sections(tmp_path)
    assert section.sections.tolist() == ["1"] * 25 + ["2"] * 15
    (tmp_path / "aggregation.csv").write_text("library_id,molecule_h5\nleft,a\nright,b\n")
    with pytest.warns(UserWarning, match=r"sections \(left, right\)"):
        assert read_sections(tmp_path).sections[-1] == "right"


def test_raw_matrix_and_its_spots_under_tissue(counts, tmp_path):
    write_h5(tmp_path / "raw_feature_bc_matrix.h5", counts.X, counts.genes, counts.obs_names)
    with pytest.raises(FileNotFoundError, match=r"only raw_feature_bc_matrix.h5, which has the"):
        read_sections(tmp_path)
    table = positions(counts)
    table.loc[table["barcode"].isin(counts.obs_names[:15]), "in_tissue"] = 0
    write_positions(tmp_path, table)
    with pytest.warns(UserWarning, match=r"raw matrix .*; 15 of 40 barcodes are not under tissue"):
        section = read_sections(tmp_path)
    np.testing.assert_array_equal(section.X.toarray(), counts.X[15:].toarray())
    np.testing.assert_allclose(section.coords, counts.coords[15:])


def test_probes_are_summed_by_gene(counts, tmp_path):
    path = tmp_path / "raw_probe_bc_matrix.h5"
    probes = [f"{gene}|{i:07x}" for gene in counts.genes for i in (1, 2)]
    X = np.repeat(counts.X.toarray(), 2, axis=1) * np.tile([1, 2], 12)
    write_h5(path, X, probes, counts.obs_names)
    with pytest.warns(UserWarning, match="probes: 24 of 24 were summed to 12 genes"):
        section = read_sections(path)
    np.testing.assert_array_equal(section.X.toarray(), 3 * counts.X.toarray())
    assert section.genes.tolist() == counts.genes.tolist()
    with h5py.File(path, "a") as file:
        file["matrix/features/filtered_probes"] = np.tile([True, False], 12)
    with pytest.warns(UserWarning, match="probes: 12 of 24"):
        section = read_sections(path)
    np.testing.assert_array_equal(section.X.toarray(), counts.X.toarray())
    with pytest.raises(FileNotFoundError, match=r"only raw_probe_bc_matrix.h5, which has probes"):
        read_sections(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "\ufeff" + text, id="byte-order mark"),
        pytest.param(lambda text: text.replace(",", ";"), id="semicolons"),
        pytest.param(lambda text: text.replace(",", "\t"), id="tabs"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(
            lambda text: re.sub(r"(?m)^(\w+),([01])", lambda m: f"{m[1]},{m[2] == '1'}", text),
            id="True and False",
        ),
        pytest.param(
            lambda text: "\n".join(
                f'"{i or ""}",{line}' for i, line in enumerate(text.split("\n")) if line
            ),
            id="row names",
        ),
        pytest.param(
            lambda text: "\n".join(
                f"{i},{line}" if i else line for i, line in enumerate(text.split("\n")) if line
            ),
            id="row names without a header",
        ),
    ],
)
def test_positions_that_somebody_saved_again(counts, tmp_path, change):
    write_visium(tmp_path, counts)
    text = change(positions(counts).to_csv(index=False))
    (tmp_path / "spatial" / "tissue_positions.csv").write_bytes(text.encode())
    assert_counts(read_sections(tmp_path), counts)


# Instruments that image cells


def write_xenium(folder, counts):
    controls = np.ones((40, 3), dtype=int)
    names = [*counts.genes, "NegControlProbe_1", "NegControlCodeword_1", "UnassignedCodeword_1"]
    kinds = ["Gene Expression"] * 12 + ["Negative Control Probe", "Negative Control Codeword",
                                        "Unassigned Codeword"]  # fmt: skip
    X = sparse.hstack([counts.X, controls])
    write_h5(folder / "cell_feature_matrix.h5", X, names, counts.obs_names, kinds)
    table = pandas.DataFrame(
        {
            "cell_id": counts.obs_names,
            "x_centroid": counts.coords[:, 0],
            "y_centroid": counts.coords[:, 1],
        }
    ).iloc[::-1]
    table.to_csv(folder / "cells.csv.gz", index=False)
    (folder / "experiment.xenium").write_text("{}")


@pytest.mark.parametrize("part", ["", "cell_feature_matrix.h5"])
def test_xenium(counts, tmp_path, part):
    write_xenium(tmp_path / "brain", counts)
    with pytest.warns(UserWarning, match="3 of 15 features that are not genes"):
        section = read_sections(tmp_path / "brain" / part)
    assert_counts(section, counts)
    assert set(section.sections) == {"brain"}
    (tmp_path / "brain" / "cells.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no cells\.parquet or cells\.csv\.gz"):
        read_sections(tmp_path / "brain")
    (tmp_path / "brain" / "cell_feature_matrix.h5").unlink()
    with pytest.raises(FileNotFoundError, match="otherwise looks like Xenium's"):
        read_sections(tmp_path / "brain")


def test_xenium_in_matrix_market_and_parquet(counts, tmp_path):
    pytest.importorskip("pyarrow")
    write_xenium(tmp_path, counts)
    (tmp_path / "cell_feature_matrix.h5").unlink()
    write_mtx(tmp_path / "cell_feature_matrix", counts.X, counts.genes, counts.obs_names)
    table = pandas.read_csv(tmp_path / "cells.csv.gz")
    table["cell_id"] = [name.encode() for name in table["cell_id"]]
    table.to_parquet(tmp_path / "cells.parquet")
    for path in (tmp_path, tmp_path / "cell_feature_matrix"):
        assert_counts(read_sections(path), counts)


def test_cosmx(counts, tmp_path):
    frame = pandas.DataFrame(counts.X.toarray(), columns=counts.genes)
    key = {"fov": 1 + np.arange(40) // 20, "cell_ID": 1 + np.arange(40) % 20}
    outside = pandas.DataFrame(9, index=[0], columns=counts.genes).assign(fov=1, cell_ID=0)
    pandas.concat([outside, frame.assign(**key)])[["fov", "cell_ID", *counts.genes]].to_csv(
        tmp_path / "S1_exprMat_file.csv", index=False
    )
    x, y = counts.coords.T
    pandas.DataFrame(key | {"CenterX_global_px": x, "CenterY_global_px": y})[::-1].to_csv(
        tmp_path / "S1_metadata_file.csv", index=False
    )
    for path in (tmp_path, tmp_path / "S1_exprMat_file.csv"):
        assert_counts(read_sections(path), counts)
    (tmp_path / "S1_metadata_file.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"one file \*metadata_file.csv\*.* found none"):
        read_sections(tmp_path)


def test_merscope(counts, tmp_path):
    cells = [str(10**18 + i) for i in range(40)]
    blanks = pandas.DataFrame(1, index=cells, columns=["Blank-1", "Blank-2"])
    frame = pandas.DataFrame(counts.X.toarray(), columns=counts.genes, index=cells)
    frame.join(blanks).to_csv(tmp_path / "cell_by_gene.csv", index_label="cell")
    x, y = counts.coords.T
    table = pandas.DataFrame({"fov": 0, "center_x": x, "center_y": y}, index=cells)[::-1]
    table.to_csv(tmp_path / "cell_metadata.csv")
    for path in (tmp_path, tmp_path / "cell_by_gene.csv"):
        with pytest.warns(UserWarning, match=r"2 of 14 features .* \(2 control\)"):
            assert_counts(read_sections(path), counts)


def test_cells_without_a_position_are_nan(counts, tmp_path):
    write_xenium(tmp_path, counts)
    pandas.read_csv(tmp_path / "cells.csv.gz")[5:].to_csv(tmp_path / "cells.csv.gz", index=False)
    with pytest.warns(UserWarning, match="not genes"):
        section = read_sections(tmp_path)
    np.testing.assert_array_equal(np.isnan(section.coords).any(axis=1), np.arange(40) >= 35)


# Tables of text


@pytest.mark.parametrize("turned", [False, True])
def test_spots_called_by_their_place(counts, tmp_path, turned):
    spots = [f"{3 + i % 7}x{i // 7 + 0.5:.2f}" for i in range(40)]
    frame = pandas.DataFrame(counts.X.toarray(), columns=counts.genes, index=spots)
    frame = frame.T if turned else frame
    frame.to_csv(tmp_path / "counts.tsv.gz", sep="\t")
    section = read_sections(tmp_path / "counts.tsv.gz")
    np.testing.assert_array_equal(section.X.toarray(), counts.X.toarray())
    np.testing.assert_allclose(section.coords[9], [5, 1.5])
    assert section.X.dtype == np.int32


def test_beads_of_slide_seq(counts, tmp_path):
    beads = ["ACGT" * 3 + "ACGT"[i // 16] + "ACGT"[i // 4 % 4] + "ACGT"[i % 4] for i in range(40)]
    frame = pandas.DataFrame(counts.X.toarray().T, index=counts.genes, columns=beads)
    frame.to_csv(tmp_path / "Puck.digital_expression.txt.gz", sep="\t", index_label="GENE")
    x, y = counts.coords.T
    pandas.DataFrame({"barcodes": beads, "xcoord": x, "ycoord": y})[::-1].to_csv(
        tmp_path / "Puck_bead_locations.csv", index=False
    )
    assert_counts(read_sections(tmp_path / "Puck.digital_expression.txt.gz"), counts)


# What holds an AnnData


def test_zarr(adata, counts, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata announces a new version of Zarr.
        adata.write_zarr(tmp_path / "a.zarr")
    assert_counts(read_sections(tmp_path / "a.zarr"), counts)


def test_the_table_of_a_spatialdata(adata, counts, tmp_path):
    store = tmp_path / "brain.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_zarr(store / "tables" / "table")
    (store / ".zattrs").write_text(json.dumps({"spatialdata_attrs": {"version": "0.1"}}))
    assert_counts(read_sections(store), counts)
    shutil.copytree(store / "tables" / "table", store / "tables" / "other")
    with pytest.raises(ValueError, match=r"with 2 tables: pass one of .*other, .*table"):
        read_sections(store)
    assert_counts(read_sections(store / "tables" / "other"), counts)


def test_mudata(adata, counts, tmp_path):
    adata.write_h5ad(tmp_path / "r.h5ad")
    with (
        # mudata writes a block of text before the rest.
        h5py.File(tmp_path / "m.h5mu", "w", userblock_size=512) as file,
        h5py.File(tmp_path / "r.h5ad") as part,
    ):
        file.attrs["encoding-type"] = "MuData"
        file.create_group("obs")
        file.create_group("var")
        file.copy(part["/"], "mod/rna")
        file.copy(part["/"], "mod/prot")
    assert_counts(read_sections(tmp_path / "m.h5mu"), counts)
    with h5py.File(tmp_path / "m.h5mu", "a") as file:
        file.move("mod/rna", "mod/atac")
    with pytest.raises(ValueError, match=r"2 modalities \(atac, prot\), and none is called rna"):
        read_sections(tmp_path / "m.h5mu")


def test_loom(counts, tmp_path):
    with h5py.File(tmp_path / "l.loom", "w") as file:
        file["matrix"] = counts.X.toarray().T
        file["row_attrs/Gene"] = np.array(counts.genes, dtype="S")
        file["row_attrs/Accession"] = np.array([f"E{i}" for i in range(12)], dtype="S")
        file["col_attrs/CellID"] = np.array(counts.obs_names, dtype="S")
        file["col_attrs/x"], file["col_attrs/y"] = counts.coords.T
    with pytest.warns(UserWarning, match="positions are taken from"):
        section = read_sections(tmp_path / "l.loom")
    assert_counts(section, counts)
    assert section.gene_ids[2] == "E2"
    with h5py.File(tmp_path / "l.loom", "a") as file:
        del file["row_attrs/Gene"]
    with pytest.raises(ValueError, match="without names of genes: row_attrs has Accession"):
        read_sections(tmp_path / "l.loom")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.rds", gzip.compress(b"X\n\x00\x00\x00\x03", mtime=0), "R data file.*zellkonverter"),
        ("a.zip", b"PK\x03\x04" + bytes(100), "zip archive. Unpack"),
        ("a.tar", bytes(257) + b"ustar" + bytes(300), "tar archive. Unpack"),
        ("a.joblib", b"\x80\x04" + bytes(50), "a pickle of Python"),
        ("a.h5ad", b"", "it is empty"),
        ("a.h5ad", bytes(range(256)) * 4, "no format that is known"),
        ("a.h5ad", b"<html><head>404</head></html>", "begins with '<html>.*download complete"),
        ("a.csv", b"name,a,b\nx,1,2\ny,3,4\n", "is not clear which of them are genes"),
        ("a.csv.gz", b"name,a,b\nx,1,2\ny,3,4\n", "is not clear which of them are genes"),
        ("a.tar.gz", gzip.compress(b"a" * 300, mtime=0), "a table of text without counts"),
        ("counts.mtx", b"%%MatrixMarket matrix\n", "Matrix Market .*pass the folder"),
        ("a.csv", b"name,gene\n10x3,one\n10x4,two\n", "values that are not numbers"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_sections(tmp_path / name)


def test_what_is_no_path_is_named():
    for address in ("https://host/a.h5ad", "s3://bucket/a.zarr"):
        with pytest.raises(ValueError, match=f"^{address} is an address, .*Download"):
            read_sections(address)
    for values in (np.ones((4, 3)), pandas.DataFrame(np.ones((4, 3)))):
        with pytest.raises(TypeError, match=f"got {type(values).__name__}"):
            read_sections(values)


@pytest.mark.parametrize("values", [[0, 1], [0.0, 1.0], ["FALSE", "TRUE"], ["false", "true"]])
def test_spots_off_the_tissue_however_they_are_marked(adata, values):
    adata.obs["in_tissue"] = np.repeat(values, [10, 30])
    with pytest.warns(UserWarning, match="10 of 40 barcodes are not under tissue"):
        assert len(read_sections(adata).X.indptr) == 31


@pytest.mark.parametrize(
    ("key", "message"),
    [("barcode_idx", "molecule_info"), ("geneExp", "Stereo-seq"), ("cell.names", "SeuratDisk")],
)
def test_hdf5_of_other_programs_is_named(tmp_path, key, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[key] = [1]
    with pytest.raises(ValueError, match=message):
        read_sections(tmp_path / "a.h5")


@pytest.fixture
def sdata(adata, counts):
    """A SpatialData whose table annotates circles, in another order."""
    spatialdata = pytest.importorskip("spatialdata")
    models = pytest.importorskip("spatialdata.models")
    table = adata.copy()
    del table.obsm["spatial"]
    table.obs["region"] = pandas.Categorical(["cells"] * 40)
    table.obs["cell"] = np.arange(40) + 100
    table = models.TableModel.parse(
        table, region="cells", region_key="region", instance_key="cell"
    )
    shapes = models.ShapesModel.parse(
        counts.coords, geometry=0, radius=3.0, index=np.arange(40) + 100
    )
    scale = spatialdata.transformations.Scale([2.0, 2.0], axes=("x", "y"))
    spatialdata.transformations.set_transformation(shapes, scale, "zoomed")
    return spatialdata.SpatialData(tables={"table": table}, shapes={"cells": shapes.iloc[::-1]})


# What SpatialData says of the packages that it writes with.
@pytest.mark.filterwarnings("ignore")
def test_positions_of_a_spatialdata_are_centroids(sdata, counts, tmp_path):
    assert_counts(read_sections(sdata), counts)
    sdata.write(tmp_path / "brain.zarr")
    assert_counts(read_sections(tmp_path / "brain.zarr"), counts)
    zoomed = table_of(sdata, coordinate_system="zoomed")
    np.testing.assert_allclose(zoomed.obsm["spatial"], 2 * counts.coords)
    assert "spatial" not in sdata.tables["table"].obsm


def test_results_go_into_a_spatialdata_with_shapes(sdata, counts):
    dpa = pytest.importorskip("sklearn_dpvae.anndata")
    small = {"n_estimators": 1, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
    model = dpa.fit(sdata, table="table", coordinate_system="zoomed", **small)
    assert dpa.predict(model, sdata) is None
    placed = sdata.tables["table"].obsm["spatial_dpvae"]
    circles = sdata.shapes["spatial_dpvae"]
    np.testing.assert_allclose(np.stack([circles.geometry.x, circles.geometry.y], 1), placed)
    assert circles.index.tolist() == list(range(100, 140))
    assert (circles.radius > 0).all()
    # They are in the system that the model was fitted in, and only there.
    transformations = pytest.importorskip("spatialdata.transformations")
    found = transformations.get_transformation(circles, get_all=True)
    assert found == {"zoomed": transformations.Identity()}


def fake_spatialdata(monkeypatch):
    """The part of SpatialData that writes shapes, where it need not be installed."""
    models = types.ModuleType("spatialdata.models")
    transformations = types.ModuleType("spatialdata.transformations")

    def parse(data, geometry, radius, index, transformations):
        circles = pandas.DataFrame(data, columns=["x", "y"], index=index)
        return circles.assign(radius=radius)

    models.ShapesModel = types.SimpleNamespace(parse=parse)
    transformations.Identity = object
    monkeypatch.setitem(sys.modules, "spatialdata", types.ModuleType("spatialdata"))
    monkeypatch.setitem(sys.modules, "spatialdata.models", models)
    monkeypatch.setitem(sys.modules, "spatialdata.transformations", transformations)

    class Elements(dict):
        def __setitem__(self, key, value):
            if key in self:
                warnings.warn(f"Key `{key}` already exists.", stacklevel=2)
            if not value.index.is_monotonic_increasing:
                warnings.warn("The index of the dataframe is not monotonic", stacklevel=2)
            super().__setitem__(key, value)

    return types.SimpleNamespace(shapes=Elements(), tables={})


def test_shapes_are_written_in_the_order_of_their_names(adata, counts, monkeypatch):
    sdata = fake_spatialdata(monkeypatch)
    names = np.random.default_rng(0).permutation(40) + 100
    adata.obs["region"] = "cells"
    adata.obs["cell"] = names
    adata.uns["spatialdata_attrs"] = {"region_key": "region", "instance_key": "cell"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # The second takes the place of the first.
            add_shapes(sdata, adata, "spatial_dpvae", counts.coords)
    circles = sdata.shapes["spatial_dpvae"]
    assert circles.index.is_monotonic_increasing
    np.testing.assert_array_equal(circles.loc[names, ["x", "y"]], counts.coords)


class FakeMuData:
    """What counts of a MuData: it has the tables of an AnnData, too."""

    obsm = var_names = None

    def __init__(self, **mod):
        self.mod = mod


def test_the_modality_of_a_mudata(adata, counts):
    other = adata[:, :3].copy()
    assert_counts(read_sections(FakeMuData(rna=adata, prot=other)), counts)
    assert_counts(read_sections(FakeMuData(only=adata)), counts)
    assert table_of(FakeMuData(rna=adata, prot=other), "prot") is other
    with pytest.raises(ValueError, match=r"modalities a, b, and none is named.*table="):
        read_sections(FakeMuData(a=adata, b=other))
    with pytest.raises(ValueError, match=r"modalities a, b, and no 'c'"):
        table_of(FakeMuData(a=adata, b=other), "c")
    with pytest.raises(TypeError, match="the data are a AnnData"):
        table_of(adata, "table")


# One cleaning


def test_an_anndata_is_cleaned_as_files_are(adata, counts):
    extra = anndata.AnnData(
        sparse.csr_matrix(np.full((40, 3), 500, dtype=np.int32)),
        obs=adata.obs,
        var=pandas.DataFrame(index=["CD3.1", "NegPrb1", "CD4.1"]),
    )
    both = anndata.concat([adata, extra], axis=1)
    both.obsm = adata.obsm
    both.var["feature_types"] = ["Gene Expression"] * 12 + [
        "Antibody Capture",
        "Gene Expression",
        "Antibody Capture",
    ]
    both.obs["in_tissue"] = (np.arange(40) != 3).astype(int)
    both.X[7] = 0
    message = (
        r"brain: 3 of 15 .* left out \(2 Antibody Capture, 1 control\); 1 of 40 .* not under "
        r"tissue .*; 1 of 40 cells without any count were dropped \(cell_00008\)"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both.X = sparse.csr_matrix(both.X)
    with pytest.warns(UserWarning, match=message) as caught:
        section = read_sections({"brain": both})
    assert len(caught) == 1
    kept = np.setdiff1d(np.arange(40), [3, 7])
    np.testing.assert_array_equal(section.X.toarray(), counts.X[kept].toarray())
    np.testing.assert_array_equal(section.coords, counts.coords[kept])
    assert section.report == {
        "features that are not genes": {"Antibody Capture": 2, "control": 1},
        "cells off the tissue": 1,
        "cells without counts": 1,
    }


def test_biotypes_are_no_reason_to_leave_genes_out(adata, counts):
    adata.var["feature_type"] = ["protein_coding"] * 11 + ["lncRNA"]
    assert_counts(read_sections(adata), counts)
    adata.var["feature_type"] = ["gene"] * 11 + ["spike-in"]
    with pytest.warns(UserWarning, match="1 spike-in"):
        assert read_sections(adata).X.shape == (40, 11)


def test_repeated_symbols_are_told_apart_by_identifiers(counts, tmp_path):
    names = ["TBCE", "TBCE", *counts.genes[2:]]
    write_h5(tmp_path / "a.h5", counts.X, names, counts.obs_names)
    with pytest.warns(UserWarning, match=r"\(TBCE\); their identifiers were appended"):
        section = read_sections(tmp_path / "a.h5")
    assert section.genes[:3].tolist() == ["TBCE_ENSG0000", "TBCE_ENSG0001", "gene_0003"]


def test_repeated_names_of_cells(adata, counts):
    adata.obs_names = ["cell", "cell", *adata.obs_names[2:]]
    with pytest.warns(UserWarning, match=r"1 names of cells occur more than once \(cell\)"):
        section = read_sections(adata)
    assert section.obs_names[:3].tolist() == ["cell", "cell-1", "cell_00003"]


def test_identifiers_stay_where_sources_agree(adata):
    other = adata.copy()
    other.var["gene_ids"] = ["X", *adata.var["gene_ids"][1:]]
    both = read_sections({"a": adata, "b": other})
    assert both.gene_ids.tolist() == ["", *adata.var["gene_ids"][1:]]
    del other.var["gene_ids"]
    assert read_sections({"a": adata, "b": other}).gene_ids is None


def test_the_logger_tells_what_is_read(adata, tmp_path, caplog):
    adata.write_h5ad(tmp_path / "cortex.h5ad")
    with caplog.at_level("INFO", logger="sklearn_dpvae"):
        read_sections(tmp_path / "cortex.h5ad")
    assert re.search(r"reading .*cortex.h5ad as h5ad", caplog.text)
    assert "cortex: 40 cells, 12 genes" in caplog.text
