"""Reads: one image and a page of a list compared with the peer, and lists over a thousand and a million rows."""

import time

from bench.bench import Bench
from bench.floor_system import Floor
from bench.load import Client, Outcome, Parts
from bench.plots import Series
from bench.processes import Meter
from bench.seeding import Tenant, analyse, seed_imago, seed_peer
from bench.statistics import Sample, percentile, ratio
from bench.systems import Imago, Peer
from imago.api.http.paging import encode_cursor

_FEW = 1000

# Filters of lists; `{middle}` and `{end}` are cursors. The first group has targets, the second has none.
_DEPTHS = {"first page": "", "middle page": "&cursor={middle}", "last page": "&cursor={end}"}
_FILTERS = {
    "rare tag": "&tag=rare",
    "common tag": "&tag=common",
    "skewed tag": "&tag=skewed",
    "rare word": "&q=rareword",
    "common word": "&q=commonword",
    "skewed word": "&q=skewedword",
    "two words": "&q=november+rareword",
}
_OTHERS = {
    "common tag and word": "&tag=common&q=commonword",
    "rare status": "&status=partial",
    "absent status": "&status=failed",
    "rare camera": "&camera=rollei",
    "skewed camera": "&camera=agfa",
    "absent camera": "&camera=leica",
    "rare place": "&has_gps=true",
    "taken long ago": "&taken_to=2010-01-01T06:00:00",
}


def measure(bench: Bench) -> None:
    """Measure reads."""
    bench.report.section("Reads, against the peer")
    ours = bench.run(_seeded(bench.imago, "thousand", _FEW))
    theirs = bench.run(seed_peer(bench.peer, 1, _FEW))
    _against_peer(bench, ours, theirs)
    many = bench.size(1_000_000, 1_000_000)
    bench.report.section(f"Lists over {many:,} rows, on PostgreSQL")
    large = bench.run(_seeded(bench.imago, "million", many))
    _by_size(bench, ours, large, many)


async def _seeded(system: Imago, name: str, count: int) -> Tenant:
    client_id, key = await system.make_client(name)
    tenant = await seed_imago(system, client_id, key, count)
    await analyse(system)
    return tenant


def _against_peer(bench: Bench, ours: Tenant, theirs: Tenant) -> None:
    report = bench.report
    tenants = {"imago": ours, "peer": theirs}
    speed: dict[str, list[float]] = {"imago": [], "peer": [], "peer, validating": []}
    routes = {"one image": "/images/{image}", "a list of 50": "/images?limit=50"}
    validating: dict[str, Sample] = {}
    bench.peer.restart_api(PEER_VALIDATE_ANSWERS="1")
    for what, route in routes.items():
        costs = [
            bench.run(_costs(bench, bench.peer, theirs, route, bench.size(150, 1500)))[0] for _ in range(bench.rounds)
        ]
        validating[what] = Sample(tuple(costs))
    bench.peer.restart_api(PEER_VALIDATE_ANSWERS="0")
    for what, route in routes.items():
        measured: dict[str, list[tuple[float, float, float]]] = {"imago": [], "peer": []}
        for turn in bench.in_turn():
            for system in turn:
                count = bench.size(600, 6000)
                measured[system.name].append(bench.run(_costs(bench, system, tenants[system.name], route, count)))
        for name, triples in measured.items():
            report.add(f"GET {what}: {name}, requests/s at 8 connections", Sample(tuple(each[1] for each in triples)))
            api = report.add(f"GET {what}: {name}, API CPU ms", Sample(tuple(each[0] for each in triples)))
            report.add(f"GET {what}: {name}, CPU ms of all processes", Sample(tuple(each[2] for each in triples)))
            speed[name].append(1000 / api)
        report.add(f"GET {what}: the peer validating its responses, API CPU ms", validating[what])
        speed["peer, validating"].append(1000 / validating[what].median)
        mine, peers = measured["imago"], measured["peer"]
        report.add(
            f"GET {what}: requests/s, ratio to the peer",
            ratio([each[1] for each in mine], [each[1] for each in peers]),
            relation=">=",
            target=2.5,
        )
        report.add(
            f"GET {what}: API CPU, the peer's over ours", ratio([each[0] for each in peers], [each[0] for each in mine])
        )
    _floor(bench, ours)
    series = [Series(name, values) for name, values in speed.items()]
    report.plot_bars("reads", "Reads by one CPU second of the API", "requests", series, list(routes))
    report.note("Neither validates its responses, except in the figures of the peer that say so.")


def _floor(bench: Bench, tenant: Tenant) -> None:
    """Measure only aiohttp and one statement, over the same rows."""
    routes = {"one image": "/images/{image}", "a list of 50": f"/images?client={tenant.client_id}&limit=50"}
    with Floor(bench.imago) as floor:
        for what, route in routes.items():
            client = Client(floor.url, "")
            rates, costs = [], []
            bench.run(_driven(client, tenant, route, 40))
            for _ in range(bench.rounds):
                count = bench.size(600, 6000)
                meter = Meter({"api": floor.group()})
                rates.append(bench.run(_driven(client, tenant, route, count)).rate)
                costs.append(meter.used()["api"] / count * 1000)
            client.close()
            bench.report.add(f"GET {what}: the floor, requests/s at 8 connections", Sample(tuple(rates)))
            bench.report.add(f"GET {what}: the floor, API CPU ms", Sample(tuple(costs)))
    bench.report.note(
        "The floor is only aiohttp and one SELECT, its rows as JSON: no authentication, rate, row-level security, "
        "metrics and logs (`bench/floor.py`)."
    )


async def _driven(client: Client, tenant: Tenant, route: str, count: int) -> Outcome:
    """Request a route repeatedly; a route with an image id requests the tenant's images in turn, newest first."""
    images = range(tenant.last, tenant.first - 1, -1)

    def parts(number: int) -> Parts:
        return client.get(route.format(image=images[number % len(images)]))

    return await client.drive(parts, connections=8, count=count)


async def _costs(
    bench: Bench, system: Imago | Peer, tenant: Tenant, route: str, count: int
) -> tuple[float, float, float]:
    """Return the API's CPU ms per request, requests per second, and the CPU ms of all processes."""
    client = Client(system.url, tenant.key)
    try:
        await _driven(client, tenant, route, 40)
        meter = Meter(system.groups())
        outcome = await _driven(client, tenant, route, count)
        used = meter.used()
    finally:
        client.close()
    return used["api"] / count * 1000, outcome.rate, sum(used.values()) / count * 1000


def _by_size(bench: Bench, small: Tenant, large: Tenant, many: int) -> None:
    report, labels = bench.report, []
    medians: dict[int, list[float]] = {_FEW: [], many: []}
    for what, query in {**_DEPTHS, **_FILTERS, **_OTHERS}.items():
        pairs = [
            bench.run(_alternating(bench.imago, small, large, query, bench.size(12, 60))) for _ in range(bench.rounds)
        ]
        labels.append(what)
        for index, rows in enumerate((_FEW, many)):
            sample = Sample(tuple(pair[index] for pair in pairs))
            medians[rows].append(report.add(f"{what}: p50 ms at {rows:,} rows", sample))
        held = what not in _OTHERS
        report.add(
            f"{what}: p50 at {many:,} rows over that at {_FEW:,}",
            ratio([pair[1] for pair in pairs], [pair[0] for pair in pairs]),
            relation="<=" if held else None,
            target=1.5 if held else None,
        )
    report.plot_bars(
        "lists",
        "A page of 50: p50 of the whole request",
        "ms",
        [Series(f"{rows:,} rows", values) for rows, values in medians.items()],
        [label.replace(" ", "\u00a0") for label in labels],
    )


async def _alternating(system: Imago, small: Tenant, large: Tenant, query: str, count: int) -> tuple[float, float]:
    """Return both p50 in ms, from alternating requests, so that other load on the machine affects both equally."""
    waits: tuple[list[float], list[float]] = ([], [])
    clients = [Client(system.url, tenant.key) for tenant in (small, large)]
    requests: list[Parts] = []
    for client, tenant in zip(clients, (small, large), strict=True):
        middle, end = (tenant.first + tenant.last) // 2, tenant.first + 60
        requests.append(
            client.get(f"/images?limit=50{query}".format(middle=encode_cursor(middle), end=encode_cursor(end)))
        )
    for number in range(count + 2):
        for index, client in enumerate(clients):
            began = time.perf_counter()
            await client.once(requests[index])
            if number >= 2:
                waits[index].append((time.perf_counter() - began) * 1000)
    for client in clients:
        client.close()
    return percentile(waits[0], 0.5), percentile(waits[1], 0.5)
