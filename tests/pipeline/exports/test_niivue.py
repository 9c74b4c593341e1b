"""NiiVue opens an exported subject in a browser."""

import functools
import http.server
import importlib.util
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from hemitwin.pipeline.exports.export import export

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

PAGE = """<!doctype html>
<canvas id="gl" width="640" height="480"></canvas><pre id="told">loading</pre>
<script src="niivue.umd.js"></script>
<script>
const told = document.getElementById("told")
const failed = []
window.onerror = (text) => failed.push(text)
const asError = console.error
console.error = (...words) => { failed.push(words.join(" ")); asError(...words) }
async function show() {
  const nv = new niivue.Niivue({ logLevel: "error" })
  await nv.attachTo("gl")
  await nv.loadVolumes([
    { url: "SCAN" }, { url: "RELEVANCE", colormap: "warm", cal_min: 0.01, cal_max: 1 },
  ])
  await nv.loadMeshes([{ url: "MESH", layers: [{ url: "METRIC", colormap: "warm" }] }])
  const volume = nv.volumes[1], mesh = nv.meshes[0], layer = mesh.layers[0]
  told.textContent = JSON.stringify({
    failed, volumes: nv.volumes.length, dims: volume.hdr.dims.slice(1, 4),
    largest: volume.global_max, vertices: mesh.pts.length / 3,
    values: layer.values.length, lit: layer.values.filter((value) => value > 0.3).length,
  })
}
show().catch((error) => { told.textContent = "failed: " + error })
</script>
"""


def niivue():
    spec = importlib.util.find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_assets/js/niivue.umd.js"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, format, *args):  # noqa: A002  the name its base gives it
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address under which the browser finds it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(address, profile):
    words = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage")
    words += ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    words += (f"--user-data-dir={profile}",)
    words += ("--virtual-time-budget=20000", "--dump-dom", f"{address}/index.html")
    done = subprocess.run(  # noqa: S603 (the program that was found on the path)
        [str(CHROMIUM), *words], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split('<pre id="told">')[1].split("</pre>")[0]


def test_niivue_shows_volume_surface_and_metric(one_prepared, plant, cache, served, tmp_path):
    plant(one_prepared)
    (exported,) = export(one_prepared, cache=cache).results
    folder, address = served
    endings = {
        "SCAN": "desc-scan_T1w.nii.gz",
        "RELEVANCE": "space-T1w_desc-lrp_relevance.nii.gz",
        "MESH": "hemi-L_space-T1w_den-32k_midthickness.surf.gii",
        "METRIC": "hemi-L_space-fsLR_den-32k_desc-lrp_relevance.shape.gii",
    }
    page = PAGE
    for word, ending in endings.items():
        (path,) = [path for path in exported.files if path.name.endswith(ending)]
        shutil.copy(path, folder)
        page = page.replace(word, path.name)
    shutil.copy(niivue(), folder)
    (folder / "index.html").write_text(page)
    told = opened(address, tmp_path / "profile")
    assert '"failed":[]' in told, told
    assert '"volumes":2' in told
    assert '"vertices":32492,"values":32492' in told
    assert '"lit":0' not in told
