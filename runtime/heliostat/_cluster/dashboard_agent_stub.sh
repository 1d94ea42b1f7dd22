#!/bin/sh
# Stands in for Ray's dashboard agent: publishes "not in use" for the three ports that the raylet
# waits for, then lives until the raylet closes the pipe. Arguments: session directory, node id.
for name in metrics_agent_port metrics_export_port dashboard_agent_listen_port; do
    printf -- "-1" > "$1/.$name.$$" && mv "$1/.$name.$$" "$1/${name}_$2"
done
exec cat > /dev/null
