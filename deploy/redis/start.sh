#!/bin/sh
# Starts Redis with the users of users.acl, of which git knows no password: it comes from REDIS_PASSWORD.
set -eu
umask 077
hash=$(printf %s "${REDIS_PASSWORD:?}" | sha256sum | cut -d ' ' -f 1)
sed "s/PASSWORD_SHA256/$hash/" /etc/goqueue/users.acl > /tmp/users.acl
unset REDIS_PASSWORD
exec redis-server /etc/goqueue/redis.conf
