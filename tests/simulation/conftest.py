def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=None, help="simulate this one seed only")
