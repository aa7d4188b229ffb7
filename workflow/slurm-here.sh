#!/bin/sh
# A Slurm cluster of one node on this machine, for trying and testing the workflow (Debian or Ubuntu, as root):
#   workflow/slurm-here.sh start FOLDER     its configuration and logs go into FOLDER; prints what to export
#   workflow/slurm-here.sh stop FOLDER
# It uses ports of its own and leaves a Slurm that is already set up on the machine alone.
set -eu
action=${1:-} folder=${2:-}
if [ -z "$folder" ]; then
  sed -n '2,4s/^# *//p' "$0" >&2
  exit 2
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

stop() {
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
  mkdir -p "$folder/state" "$folder/spool"
  chmod 755 "$folder"
  if [ ! -f "$folder/munge.key" ]; then
    head -c 1024 /dev/urandom > "$folder/munge.key"
    chmod 400 "$folder/munge.key"
  fi
  # Jobs need no more memory than one core's share by default; a finished job can be asked for ten minutes.
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
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  SLURM_CONF="$folder/slurm.conf" slurmctld -c
  SLURM_CONF="$folder/slurm.conf" slurmd -N "$(hostname -s)" 2>/dev/null || SLURM_CONF="$folder/slurm.conf" slurmd
  for _ in $(seq 60); do
    if [ "$(SLURM_CONF="$folder/slurm.conf" sinfo -h -o %T 2>/dev/null)" = idle ]; then
      echo "SLURM_CONF=$folder/slurm.conf"
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
  *) sed -n '2,4s/^# *//p' "$0" >&2; exit 2 ;;
esac
