# PostgreSQL from Debian, taking what docker-compose.yml gives the official image. For tests alone.
FROM localhost/testbed/python:3.11
RUN mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql > /dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
 && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data && install -d -o postgres -g postgres -m 2775 /run/postgresql
COPY postgresql-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["postgresql-entrypoint.sh"]
CMD ["postgres"]
