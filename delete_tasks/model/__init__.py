"""Parts of any network: head, features, loss points, class layers, projection, teacher."""
