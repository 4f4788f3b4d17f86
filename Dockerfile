# The command on a CPU, in an image of its own and without rights; photographs come and go through the folder /work:
#
#   docker build -t expose .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" expose enhance night.ARW

FROM python:3.11-slim AS build
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN python -m venv /opt/expose \
    && /opt/expose/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' constraints.txt)" \
    && /opt/expose/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/expose /opt/expose
RUN useradd --create-home --uid 1000 expose
USER 1000
WORKDIR /work
ENTRYPOINT ["/opt/expose/bin/expose"]
CMD ["--help"]
