#!/bin/sh
# A Slurm cluster of one node on this machine, for trying and testing the workflow (Debian or Ubuntu, as root):
#   workflow/slurm-here.sh start FOLDER     its configuration and logs go into FOLDER
#   workflow/slurm-here.sh stop FOLDER
# /etc/slurm/slurm.conf is a link to its configuration meanwhile; where there is one already, it is left alone.
set -eu
action=${1:-} folder=${2:-}
if [ -z "$folder" ]; then
  sed -n '2,5s/^# *//p' "$0" >&2
  exit 2
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
central=/etc/slurm/slurm.conf

stop() {
  if [ "$(readlink $central)" = "$folder/slurm.conf" ]; then
    rm -f $central
  fi
  for name in slurmd slurmctld munged; do
    if [ -f "$folder/$name.pid" ]; then
      kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
      rm -f "$folder/$name.pid"
    fi
  done
}

start() {
  if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    echo "Installing slurm-wlm and munge ..." >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurm-wlm munge; } >/dev/null 2>&1 || { echo "slurm-wlm could not be installed." >&2; exit 1; }
  fi
  if [ -e $central ] && [ "$(readlink $central)" != "$folder/slurm.conf" ]; then
    echo "This machine has a Slurm already ($central); it is left alone." >&2
    exit 1
  fi
  mkdir -p "$folder/state" "$folder/spool" "$(dirname $central)"
  chmod 755 "$folder"
  if [ ! -f "$folder/munge.key" ]; then
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
  fi
  # A finished job is still known for ten minutes: snakemake asks.
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
  cpus=${SLURM_HERE_CPUS:-$(nproc)}
  cat > "$folder/slurm.conf" <<EOF
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${SLURM_HERE_PORT:-16817}
SlurmdPort=$((${SLURM_HERE_PORT:-16817} + 1))
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=$((memory / cpus))
MinJobAge=600
ReturnToService=2
SlurmdTimeout=10
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
  ln -sf "$folder/slurm.conf" $central
  trap 'stop' EXIT
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  slurmctld -c
  slurmd
  for _ in $(seq 60); do
    if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
      sinfo
      trap - EXIT
      return
    fi
    sleep 0.5
  done
  echo "The node did not become idle; see $folder/slurmctld.log and $folder/slurmd.log." >&2
  exit 1
}

case $action in
  start) start ;;
  stop) stop ;;
  *) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
esac
