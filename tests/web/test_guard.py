"""Who may ask, for what, and what is never given away."""

import os

from starlette.testclient import TestClient

OUTSIDE = [
    "/page/../app.py",
    "/page/..%2fapp.py",
    "/page/%2e%2e/app.py",
    "/page//etc/passwd",
    "/page/%2fetc%2fpasswd",
    "/..%2f..%2fetc/passwd",
    "/api/photographs/../../../etc/passwd/view",
    "/api/photographs/..%2f..%2fetc%2fpasswd/thumbnail",
    "/api/photographs/%2fetc%2fpasswd/facts",
    "/api/photographs/%00/thumbnail",
    "/api/photographs/night.dng/thumbnail",
    "/api/orders/1/file",
    "/api/orders/-1/file",
    "/api/orders/..%2f1/file",
]


def test_no_path_leads_out(client):
    for path in OUTSIDE:
        answer = client.get(path)
        assert answer.status_code in (404, 410), path
        assert b"root:" not in answer.content


def test_a_link_that_leads_out_of_the_folder_is_no_photograph(client, key, folder, dark_dng):
    (folder / "link.dng").symlink_to(dark_dng)
    (folder / "inner.dng").symlink_to(folder / "night.dng")
    names = [one["name"] for one in client.get("/api/photographs").json()["photographs"]]
    assert ("link.dng" in names, "inner.dng" in names) == (False, True)
    one = key("later.dng")  # and one that becomes such a link later is none any more
    os.remove(folder / "later.dng")
    assert client.get(f"/api/photographs/{one}/view").status_code == 410
    (folder / "later.dng").symlink_to(dark_dng)
    assert client.get(f"/api/photographs/{one}/view").status_code == 410
    assert client.post("/api/orders", json={"photographs": [one]}).status_code == 410


def test_uploads_are_limited_private_and_named_by_their_last_part(serve, dark_dng, tmp_path):
    data = dark_dng.read_bytes()
    client = serve(limit=len(data))
    answer = client.post("/api/photographs", params={"name": "../../etc/new one.dng"}, content=data)
    assert (answer.status_code, answer.json()["name"]) == (201, "new one.dng")
    assert client.get(f"/api/photographs/{answer.json()['key']}/view").status_code == 200
    (place,) = (tmp_path / "uploads").iterdir()
    assert place.stat().st_mode & 0o077 == 0
    refused = client.post("/api/photographs", params={"name": "x.dng"}, content=data + b"x")
    assert (refused.status_code, "limit" in refused.json()["error"]) == (413, True)
    for name in ("x.txt", "", "..", ".dng", "a\0b"):
        assert client.post("/api/photographs", params={"name": name}, content=data).status_code == 422
    assert list((tmp_path / "uploads").iterdir()) == [place]
    for _ in range(9):
        assert client.post("/api/photographs", params={"name": "x.dng"}, content=data).status_code == 201
    assert client.post("/api/photographs", params={"name": "x.dng"}, content=data).status_code == 413


def test_results_of_uploads_stay_private(serve, dark_dng, tmp_path):
    client = serve(output=tmp_path / "out")
    one = client.post("/api/photographs", params={"name": "x.dng"}, content=dark_dng.read_bytes()).json()["key"]
    client.post("/api/orders", json={"photographs": [one], "asked": {"ratio": "50"}})
    while client.get("/api/orders").json()["orders"][0]["state"] != "done":
        pass
    assert client.get("/api/orders/1/file").content[:2] == b"II"
    assert not (tmp_path / "out").exists()


def test_a_token_is_asked_for_once(serve):
    client = serve(token="öffne dich")
    assert client.get("/").status_code == 401
    assert "Token" in client.get("/").text
    for path in ("/api/photographs", "/page/page.js", "/api/orders"):
        assert client.get(path).status_code == 401
    assert client.get("/", params={"token": "wrong"}).status_code == 401
    answer = client.get("/", params={"token": "öffne dich", "a": "b"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?a=b")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert client.get("/api/photographs").status_code == 200
    assert TestClient(client.app, base_url="http://x").get("/api/photographs").status_code == 401


def test_other_pages_and_other_names_of_this_machine_are_refused(client):
    post = {"content": b"x", "params": {"name": "x.dng"}}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert client.post("/api/photographs", headers=headers, **post).status_code == 403
    for host in ("evil.example", "evil.example:8000", "", "127.0.0.1.evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 403
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert client.get("/", headers={"host": host}).status_code == 200


def test_nothing_comes_from_elsewhere(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for name in ("", "page/page.js", "page/style.css", "page/icon.svg"):
        text = client.get(f"/{name}").text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "://" not in text
