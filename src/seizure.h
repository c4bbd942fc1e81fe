/*
 * seizure.h
 *		Clients that the central site takes from a primary site that is gone, and how the others learn it.
 */
#ifndef CMBLOCK_SEIZURE_H
#define CMBLOCK_SEIZURE_H

#include "postgres.h"
#include "executor/tuptable.h"

#include "batch.h"
#include "neighbour.h"

/*
 * A newer row came, `local` is the one here, locked. If it was seized, or the central site wrote into it, makes of both what is
 * to be written here, in place, and marks the neighbour's row as merged. Inside SPI.
 */
extern void cmblock_meet_seizure(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent,
								 TupleTableSlot *local);

/*
 * A row came that is not newer. If it is the block of a site that did not know that it was seized, makes the row that carries
 * this block on, in place, marks it as merged and returns true. Inside SPI.
 */
extern bool cmblock_take_late_block(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent,
									TupleTableSlot *local);

/*
 * A row came that a child has as its own, and this site as another's. If both registered it without knowing of each other, makes the
 * row that tells them whose it is, in place, marks it as merged and returns true. Inside SPI.
 */
extern bool cmblock_settle_registration(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent,
										TupleTableSlot *local);

/*
 * A row of table site came. If the child added a site whose code belongs to another one here, makes the row that tells it so, in
 * place, and marks it as merged.
 */
extern void cmblock_settle_site(Neighbour *neighbour, TupleTableSlot *sent, TupleTableSlot *local);

/*
 * The row here is going to be replaced by the parent's. If this site blocked it and the parent has not had that, puts the block into
 * `sent`, as written by this site, and returns true. Inside SPI.
 */
extern bool cmblock_keep_unsent_block(const Neighbour *parent, BatchTable table, TupleTableSlot *sent,
									  TupleTableSlot *local);

/* All but clients that come through an ISV proxy: a row that is both is refused by the table. */
extern bool cmblock_can_be_blocked(BatchTable table, TupleTableSlot *row);

#endif
