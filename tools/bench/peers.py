"""The servers that are measured: Thinkline and its peers, each one worker on one core before the same upstream.

`install` brings what is missing: nginx from the distribution, LiteLLM into an environment of its own, Portkey by npm.
Each needs a registry; one that cannot be had is left out of the tables, by name.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.emulators.bedrock.server import AGENT
from tests.emulators.oci.keys import COMPARTMENT, REGION, config_file
from tools.bench.processes import HERE, LOOPBACK, ROOT, NotStarted, Server, free_port, run_server

INSTALL_FOLDER = ROOT / ".bench"
PORTKEY = INSTALL_FOLDER / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
LITELLM = INSTALL_FOLDER / "litellm" / "bin" / "litellm"
KEY = "sk-bench"
THREADS = 1280
INSTALL_SECONDS = 600
LITELLM_VERSION = "1.108.7"
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # Later ones hand on the upstream's own headers, which cannot be added to: Portkey answers each stream with a 500.
    "overrides": {"@hono/node-server": "1.13.8"},
}
NGINX = """
worker_processes 1; daemon off; pid nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
  access_log access.log;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  upstream model {{ server {host}:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
  server {{
    listen {host}:{port} backlog=4096; keepalive_requests 10000000;
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
LITELLM_CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://{host}:{upstream}/v1", api_key: unused}}
"""

ServerRunner = Callable[[int, int, Path], AbstractContextManager[Server]]


@contextmanager
def thinkline(core: int, upstream: int, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Thinkline with its defaults, a key and its log, started as `make run` does; `settings` are further environment
    variables.
    """
    port = free_port()
    variables = {
        "ENV_FILE": os.devnull,
        "DATA_DIR": str(folder),
        "MODELS_FILE": str(folder / "models.yaml"),
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
        "API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"http://{LOOPBACK}:{upstream}/v1",
        **(settings or {}),
        "PORT": str(port),
    }
    (folder / "models.yaml").touch()
    command = [sys.executable, "-m", "gunicorn", "app:create_app()"]
    headers = {"Authorization": f"Bearer {KEY}"}
    with run_server(command, core, port, variables=variables, headers=headers) as server:
        yield server


def provider_settings(upstream: int, folder: Path) -> Mapping[str, str]:
    """The settings of a Thinkline that reaches Anthropic, OCI and an agent of Amazon's, all at that upstream."""
    url = f"http://{LOOPBACK}:{upstream}"
    return {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": url,
        "OCI_CONFIG_FILE": str(config_file(folder)),
        "OCI_REGION": REGION,
        "OCI_COMPARTMENT": COMPARTMENT,
        "OCI_SERVICE_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": url,
        "AGENT_ID": AGENT[0],
        "AGENT_ALIAS_ID": AGENT[1],
    }


def nginx(core: int, upstream: int, folder: Path) -> AbstractContextManager[Server]:
    """nginx, without buffering."""
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(host=LOOPBACK, port=port, upstream=upstream))
    command = [_find_program("nginx"), "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    return run_server(command, core, port)


def litellm(core: int, upstream: int, folder: Path) -> AbstractContextManager[Server]:
    """LiteLLM's proxy."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(host=LOOPBACK, upstream=upstream))
    command = [_find_program(str(LITELLM)), "--config", str(config), "--host", LOOPBACK, "--port", str(port)]
    key = f"sk-{secrets.token_hex(32)}"  # it does not start without a key that is hard to guess
    variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": key}
    return run_server(
        [*command, "--num_workers", "1", "--telemetry", "False"],
        core,
        port,
        cwd=folder,
        variables=variables,
        headers={"Authorization": f"Bearer {key}"},
    )


def portkey(core: int, upstream: int, folder: Path) -> AbstractContextManager[Server]:
    """Portkey's gateway."""
    port = free_port()
    program = PORTKEY / "build" / "start-server.js"
    if not program.exists():
        raise NotStarted("It is not installed.")
    headers = {
        "Authorization": "Bearer unused",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://{LOOPBACK}:{upstream}/v1",
    }
    variables = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": LOOPBACK}
    command = [_find_program("node"), str(program), f"--port={port}", "--headless"]
    return run_server(command, core, port, cwd=folder, variables=variables, headers=headers)


def _run_gunicorn(application: str, core: int) -> AbstractContextManager[Server]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", application, "--config", os.devnull, "--no-control-socket"]
    options = {
        "worker-class": "gthread",
        "bind": f"{LOOPBACK}:{port}",
        "threads": THREADS,
        "worker-connections": 4000,
        "keep-alive": 75,
    }
    command += [f"--{name}={value}" for name, value in options.items()]
    return run_server(command, core, port, cwd=HERE)


def naive(core: int, upstream: int, folder: Path) -> AbstractContextManager[Server]:  # noqa: ARG001 - a ServerRunner
    """naive.py."""
    return _run_gunicorn(f"naive:create_app('http://{LOOPBACK}:{upstream}/v1')", core)


def bare(core: int, upstream: int, folder: Path) -> AbstractContextManager[Server]:  # noqa: ARG001 - a ServerRunner
    """bare.py, which asks no upstream."""
    return _run_gunicorn("bare:app", core)


def _find_program(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")  # noqa: TID251 - no setting
    if path is None:
        raise NotStarted("It is not installed.")
    return path


def install() -> dict[str, str]:
    """Install the peers that are missing; name -> why not."""
    failed = {}
    INSTALL_FOLDER.mkdir(exist_ok=True)
    commands = {
        "nginx": (shutil.which("nginx", path="/usr/sbin:/usr/bin"), _nginx_commands()),
        "litellm": (LITELLM.exists(), _litellm_commands()),
        "portkey": (PORTKEY.exists(), _portkey_commands()),
    }
    for name, (is_there, steps) in commands.items():
        for step in () if is_there else steps:
            try:
                subprocess.run(step, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                failed[name] = (error.stderr or error.stdout).strip()[-300:]
                break
            except (OSError, subprocess.TimeoutExpired) as error:
                failed[name] = str(error)
                break
    return failed


def _nginx_commands() -> list[list[str]]:
    return [["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "nginx-light"]]


def _litellm_commands() -> list[list[str]]:
    folder = INSTALL_FOLDER / "litellm"
    pip = [str(folder / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    return [[sys.executable, "-m", "venv", str(folder)], [*pip, f"litellm[proxy]=={LITELLM_VERSION}"]]


def _portkey_commands() -> list[list[str]]:
    folder = INSTALL_FOLDER / "portkey"
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text(json.dumps(PORTKEY_PACKAGE))
    return [["npm", "install", "--no-fund", "--no-audit", "--silent", "--prefix", str(folder)]]


def versions() -> dict[str, str]:
    """The versions of the installed peers."""
    commands = {
        "nginx": ["/usr/sbin/nginx", "-v"],
        "litellm": [str(LITELLM.with_name("pip")), "list", "--format=freeze", "--disable-pip-version-check"],
        "portkey": ["node", "-p", f"require('{PORTKEY}/package.json').version"],
        "node": ["node", "--version"],
    }
    found = {}
    for name, command in commands.items():
        try:
            process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            continue
        lines = [
            line for line in (process.stdout + process.stderr).splitlines() if name != "litellm" or "litellm==" in line
        ]
        found[name] = lines[0].rpartition("/" if name == "nginx" else "==")[2].strip() if lines else ""
    return found


def servers(settings: Mapping[str, str]) -> Mapping[str, ServerRunner]:
    """The servers that are measured, in the order of the tables."""
    return {
        "thinkline": partial(thinkline, settings=settings),
        "nginx": nginx,
        "portkey": portkey,
        "litellm": litellm,
        "naive": naive,
        "bare": bare,
    }
