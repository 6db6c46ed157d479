#!/usr/bin/env bash
# A Slurm of one node on this machine, for tests: munged, slurmctld and slurmd in a folder of their own,
# without systemd, cgroups or accounting, reachable from this machine alone. Needs root and Debian's packages
# slurmctld, slurmd, slurm-client and munge; says what fails and exits with 1 where it cannot run.
#
#   tests/slurm_node.sh start FOLDER     afterwards SLURM_CONF=FOLDER/slurm.conf makes `sbatch` use it
#   tests/slurm_node.sh stop FOLDER
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Before 23.02 a slurmd cannot do without a cgroup plugin; that of v1 touches nothing as it is set here.
cgroup_conf() {
  local version
  version=$(slurmd -V | grep -oE '[0-9]+\.[0-9]+' | head -n 1)
  if [ "$(printf '%s\n23.02\n' "$version" | sort -V | head -n 1)" = 23.02 ]; then
    echo "CgroupPlugin=disabled"
  else
    printf '%s\n' CgroupPlugin=cgroup/v1 CgroupAutomount=no ConstrainCores=no ConstrainDevices=no ConstrainRAMSpace=no
  fi
}

# A requeued job may start as soon as the credentials of its steps have expired: cred_expire, in seconds.
slurm_conf() {
  cat <<CONF
ClusterName=tests
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=1,sched_min_interval=100000,bf_interval=1
MpiDefault=none
KillWait=10
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
CONF
}

start() {
  [ "$(id -u)" = 0 ] || { echo "slurmd runs as root only" >&2; exit 1; }
  for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || { echo "$program is not installed" >&2; exit 1; }
  done
  mkdir -p "$folder"/{state,spool,log,munge}
  chmod 755 "$folder" "$folder/munge" "$folder/log"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  slurm_conf >"$folder/slurm.conf"
  cgroup_conf >"$folder/cgroup.conf"
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
  slurmctld -i -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  for _ in $(seq 100); do
    [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && return
    sleep 0.2
  done
  echo "the node does not come up:" >&2
  for log in "$folder"/log/*.log; do tail -n 5 "$log" >&2; done
  stop
  exit 1
}

# The daemons are gone when this returns.
stop() {
  scancel --full --signal=KILL -u root 2>/dev/null || true
  scancel -u root 2>/dev/null || true
  for name in slurmd.pid slurmctld.pid munge/pid; do
    [ -s "$folder/$name" ] || continue
    pid=$(cat "$folder/$name")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 50); do
      kill -0 "$pid" 2>/dev/null || continue 2
      sleep 0.2
    done
    kill -9 "$pid" 2>/dev/null || true
  done
}

[ $# = 2 ] || { echo "usage: $0 start|stop FOLDER" >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf
case $1 in
  start) start ;;
  stop) stop ;;
  *) echo "usage: $0 start|stop FOLDER" >&2; exit 2 ;;
esac
