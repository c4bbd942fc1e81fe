/*
 * slots.c
 *		Shared memory in which sessions, the launcher and the workers find one another: a slot a database and kind of worker.
 *
 * A slot says whether its database has a worker of its kind, is to get one, or was looked at and needs none. It is
 * the launcher's work list and the sessions' way to a worker's latch; it holds no replication state, since shared
 * memory is made anew after a crash while tables stay.
 *
 * Life of a slot: WANTED (launcher is to start a worker) -> STARTING (the postmaster was asked) -> ATTACHED (the
 * process is up and looks at the database) -> AT_WORK, or -> IDLE (nothing to do there). A process that ends without
 * saying that it has nothing to do leaves WANTED behind, to be tried again after a delay that grows.
 *
 * Locking: one LWLock, held for a few instructions. A commit takes it shared, and the two counters are atomic. A
 * worker is woken through its PGPROC, which is never freed: the worst that a late wake-up does is wake the next owner
 * once in vain.
 *
 * The slot is given back by an on_shmem_exit callback that was registered before the process joined the proc array,
 * so it runs after the process has left it: who waits for the slot to be free finds the database free as well.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "shmem.h"
#include "slots.h"

/* Delay before a worker that ended unexpectedly is started again: doubles from the first to the second. */
#define RESTART_MIN_MS 1000
#define RESTART_MAX_MS 60000

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_IDLE,
	SLOT_WANTED,
	SLOT_STARTING,
	SLOT_ATTACHED,
	SLOT_AT_WORK
} SlotState;

typedef struct Slot
{
	Oid database;
	WorkerKind kind;
	SlotState state;
	PGPROC *proc; /* while ATTACHED or AT_WORK */
	pid_t pid;
	int holds;   /* commands that need the database to themselves */
	int crashes; /* in a row */
	TimestampTz start_after;
	TimestampTz attached_at;
	SiteCode comparison; /* wanted by a session */
	pg_atomic_uint32 changes;
	pg_atomic_uint32 tasks;
} Slot;

typedef struct Slots
{
	PGPROC *launcher;
	ConditionVariable stopped; /* a worker has given its slot back */
	int used;                  /* slots from here on have never been used */
	Slot slot[CMBLOCK_MAX_SLOTS];
} Slots;

static Slots *slots = NULL;
static Slot *my_slot = NULL;
static bool retiring = false;
static uint32 retiring_tasks;

Size
cmblock_slots_size(void)
{
	return sizeof(Slots);
}

void
cmblock_slots_startup(void)
{
	bool found;

	slots = ShmemInitStruct("cmblock databases", sizeof(Slots), &found);
	if (found)
		return;
	memset(slots, 0, sizeof(Slots));
	ConditionVariableInit(&slots->stopped);
	for (int i = 0; i < CMBLOCK_MAX_SLOTS; i++)
	{
		pg_atomic_init_u32(&slots->slot[i].changes, 0);
		pg_atomic_init_u32(&slots->slot[i].tasks, 0);
	}
}

bool
cmblock_slots_available(void)
{
	return slots != NULL;
}

static Slot *
find(Oid database, WorkerKind kind)
{
	for (int i = 0; i < slots->used; i++)
		if (slots->slot[i].database == database && slots->slot[i].kind == kind &&
			slots->slot[i].state != SLOT_FREE)
			return &slots->slot[i];
	return NULL;
}

/* Needs the lock exclusively. A new slot is WANTED. NULL when all are taken. */
static Slot *
find_or_make(Oid database, WorkerKind kind)
{
	Slot *slot = find(database, kind);

	if (slot)
		return slot;
	for (int i = 0; i < slots->used && !slot; i++)
		if (slots->slot[i].state == SLOT_FREE)
			slot = &slots->slot[i];
	if (!slot && slots->used < CMBLOCK_MAX_SLOTS)
		slot = &slots->slot[slots->used++];
	if (!slot)
		return NULL;
	slot->database = database;
	slot->kind = kind;
	slot->state = SLOT_WANTED;
	slot->proc = NULL;
	slot->pid = 0;
	slot->holds = 0;
	slot->crashes = 0;
	slot->start_after = 0;
	slot->comparison = NO_SITE;
	return slot;
}

static void
wake_launcher(void)
{
	if (slots->launcher)
		SetLatch(&slots->launcher->procLatch);
}

void
cmblock_slots_wake(Oid database, WorkerKind kind, bool tasks)
{
	Slot *slot;
	bool ask;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_SHARED);
	slot = find(database, kind);
	if (slot)
	{
		pg_atomic_fetch_add_u32(&slot->changes, 1);
		if (tasks)
			pg_atomic_fetch_add_u32(&slot->tasks, 1);
		if (slot->proc)
			SetLatch(&slot->proc->procLatch);
	}
	ask = !slot || (slot->state == SLOT_IDLE && tasks);
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	if (ask)
		cmblock_slots_request(database, kind);
}

bool
cmblock_slots_request_comparison(Oid database, SiteCode neighbour)
{
	Slot *slot;
	bool done = false;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find(database, WORKER_REPLICATOR);
	if (slot && slot->proc && (slot->comparison == NO_SITE || slot->comparison == neighbour))
	{
		slot->comparison = neighbour;
		done = true;
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	if (done)
		cmblock_slots_wake(database, WORKER_REPLICATOR, true);
	return done;
}

SiteCode
cmblock_slots_take_comparison(void)
{
	SiteCode wanted;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	wanted = my_slot->comparison;
	my_slot->comparison = NO_SITE;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	return wanted;
}

void
cmblock_slots_nudge(Oid database)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_SHARED);
	slot = find(database, WORKER_REPLICATOR);
	if (slot && slot->proc)
		SetLatch(&slot->proc->procLatch);
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

uint32
cmblock_slots_changes_of(Oid database)
{
	Slot *slot;
	uint32 changes;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_SHARED);
	slot = find(database, WORKER_REPLICATOR);
	changes = slot ? pg_atomic_read_u32(&slot->changes) : 0;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	return changes;
}

void
cmblock_slots_request(Oid database, WorkerKind kind)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find_or_make(database, kind);
	if (slot && slot->state == SLOT_IDLE)
	{
		slot->state = SLOT_WANTED;
		slot->start_after = 0;
	}
	wake_launcher();
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

void
cmblock_slots_forget(Oid database, WorkerKind kind)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find(database, kind);
	if (slot && slot->holds == 0 && !slot->proc)
		slot->state = SLOT_FREE;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

/* Is there, or will there soon be, a process in this slot? */
static bool
occupied(const Slot *slot)
{
	return slot->state >= SLOT_STARTING;
}

static bool
database_is_quiet(Oid database)
{
	bool quiet = true;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_SHARED);
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
	{
		Slot *slot = find(database, kind);

		if (slot && occupied(slot))
			quiet = false;
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	return quiet;
}

bool
cmblock_slots_hold(Oid database, int timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	bool quiet;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
	{
		Slot *slot = find_or_make(database, kind);

		if (!slot)
			continue;
		slot->holds++;
		if (slot->pid != 0)
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));

	ConditionVariablePrepareToSleep(&slots->stopped);
	while (!(quiet = database_is_quiet(database)))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (left <= 0)
			break;
		ConditionVariableTimedSleep(&slots->stopped, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return quiet;
}

void
cmblock_slots_release(Oid database)
{
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
	{
		Slot *slot = find(database, kind);

		if (slot && slot->holds > 0)
			slot->holds--;
	}
	wake_launcher();
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

bool
cmblock_slots_worker_runs(Oid database, WorkerKind kind)
{
	Slot *slot;
	bool runs;

	if (!slots)
		return false;
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_SHARED);
	slot = find(database, kind);
	runs = slot && slot->proc;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	return runs;
}

bool
cmblock_slots_launcher_runs(void)
{
	return slots && slots->launcher;
}

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slots->launcher = NULL;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

void
cmblock_slots_attach_launcher(void)
{
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slots->launcher = MyProc;
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	on_shmem_exit(detach_launcher, (Datum) 0);
}

bool
cmblock_slots_next_start(TimestampTz now, int parallel, Oid *database, WorkerKind *kind,
						 TimestampTz *wait_until)
{
	Slot *ready = NULL;
	int starting = 0;

	*wait_until = DT_NOEND;
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	for (int i = 0; i < slots->used; i++)
	{
		Slot *slot = &slots->slot[i];

		if (slot->state == SLOT_STARTING || slot->state == SLOT_ATTACHED)
			starting++;
		if (slot->state != SLOT_WANTED || slot->holds > 0)
			continue;
		if (slot->start_after > now)
			*wait_until = Min(*wait_until, slot->start_after);
		else if (!ready)
			ready = slot;
	}
	if (starting >= parallel)
		ready = NULL;
	if (ready)
	{
		ready->state = SLOT_STARTING;
		*database = ready->database;
		*kind = ready->kind;
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	return ready != NULL;
}

void
cmblock_slots_postpone(Oid database, WorkerKind kind, TimestampTz until)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find(database, kind);
	if (slot && slot->state == SLOT_STARTING)
	{
		slot->state = SLOT_WANTED;
		slot->start_after = until;
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	ConditionVariableBroadcast(&slots->stopped);
}

/* The process in this slot ended, or never came up, and did not say that there is nothing to do. */
static void
try_again_later(Slot *slot, TimestampTz now)
{
	int delay = RESTART_MIN_MS;

	slot->crashes = Min(slot->crashes + 1, 10);
	for (int i = 1; i < slot->crashes && delay < RESTART_MAX_MS; i++)
		delay *= 2;
	slot->start_after = TimestampTzPlusMilliseconds(now, Min(delay, RESTART_MAX_MS));
	slot->state = SLOT_WANTED;
}

void
cmblock_slots_start_failed(Oid database, WorkerKind kind, TimestampTz now)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find(database, kind);
	if (slot && slot->state == SLOT_STARTING)
		try_again_later(slot, now);
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	ConditionVariableBroadcast(&slots->stopped);
}

static void
detach(int code, Datum arg)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	my_slot->proc = NULL;
	my_slot->pid = 0;
	if (retiring)
	{
		bool seen_all = pg_atomic_read_u32(&my_slot->tasks) == retiring_tasks;

		my_slot->state = seen_all ? SLOT_IDLE : SLOT_WANTED;
		my_slot->start_after = 0;
		my_slot->crashes = 0;
	}
	else if (my_slot->holds > 0)
	{
		my_slot->state = SLOT_WANTED;
		my_slot->start_after = 0;
	}
	else
	{
		if (TimestampDifferenceExceeds(my_slot->attached_at, now, RESTART_MAX_MS))
			my_slot->crashes = 0;
		try_again_later(my_slot, now);
	}
	wake_launcher();
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	ConditionVariableBroadcast(&slots->stopped);
}

bool
cmblock_slots_attach(Oid database, WorkerKind kind)
{
	Slot *slot;

	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	slot = find(database, kind);
	if (slot && slot->state == SLOT_STARTING)
	{
		if (slot->holds > 0)
			slot->state = SLOT_WANTED;
		else
		{
			slot->state = SLOT_ATTACHED;
			slot->proc = MyProc;
			slot->pid = MyProcPid;
			slot->attached_at = GetCurrentTimestamp();
			my_slot = slot;
		}
	}
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
	if (!my_slot)
	{
		ConditionVariableBroadcast(&slots->stopped);
		return false;
	}
	on_shmem_exit(detach, (Datum) 0);
	return true;
}

void
cmblock_slots_at_work(void)
{
	LWLockAcquire(cmblock_lock(LOCK_SLOTS), LW_EXCLUSIVE);
	if (my_slot->state == SLOT_ATTACHED)
		my_slot->state = SLOT_AT_WORK;
	wake_launcher();
	LWLockRelease(cmblock_lock(LOCK_SLOTS));
}

/* The barrier: what the caller reads next must not be older than the counter. */
static uint32
read_counter(pg_atomic_uint32 *counter)
{
	uint32 value = pg_atomic_read_u32(counter);

	pg_memory_barrier();
	return value;
}

uint32
cmblock_slots_changes(void)
{
	return read_counter(&my_slot->changes);
}

uint32
cmblock_slots_tasks(void)
{
	return read_counter(&my_slot->tasks);
}

void
cmblock_slots_retire(uint32 tasks)
{
	retiring = true;
	retiring_tasks = tasks;
}
