import pytest

from weft.testing.process import ProxyProcess, SlowUpstream


@pytest.fixture
def start(tmp_path):
    """``start(config, *flags)`` gives a :class:`ProxyProcess`; they end with the test."""
    proxies = []

    def start(config, *flags):
        proxy = ProxyProcess(tmp_path, config, *flags)
        proxies.append(proxy)
        return proxy

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def upstream():
    one = SlowUpstream()
    yield one
    one.close()
